"""Pages of reports as tests read them: elements, text and tables; and reading and writing with the paper beside."""

import json
import re
from functools import partial
from html.parser import HTMLParser

from avrobust import report
from avrobust.papers.tian2021.printed import PAPER
from avrobust.report.load import read as read_run

PAPERS = {PAPER.name: PAPER}
read, write = partial(read_run, papers=PAPERS), partial(report.write, papers=PAPERS)

# Titles of tables and of their columns.
ROBUST = {s: f"{name} attacked: robust accuracy" for s, name in (("A", "Audio"), ("V", "Visual"), ("AV", "Both"))}
MEAN = "Mean robust accuracy"
PAPERS_BUDGETS, OTHER_BUDGETS = "Robust accuracy, at the paper's budgets", "Robust accuracy, at other budgets"

VOID = {"meta", "link", "img", "br", "input", "hr", "path", "use"}


class Page(HTMLParser):
    """Elements of a page as they open, its text, its tables, and whether every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.crossed, self.words = [], [], [], []
        self.tables = [json.loads(own["json"]) for own in carried(text).values()]
        self.feed(text)
        self.close()

    def cell(self, title, row, column):
        """What a cell says, and the lines below it; `title` ends that of the table."""
        (table,) = [t for t in self.tables if t["title"].endswith(title)]
        (cells,) = [cells for cells in table["rows"] if cells[0]["text"] == row]
        cell = cells[table["columns"].index(column)]
        return [cell["text"], *cell.get("small", [])]

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def carried(html):
    """The files of the tables of a page, by their place in it."""
    return json.loads(re.search(r'<script type="application/json" id="table-files">(.*?)</script>', html, re.DOTALL)[1])
