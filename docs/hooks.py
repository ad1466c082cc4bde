"""Render the notebooks as pages of the site: their code, and the outputs that they were saved with."""

import re
from typing import Any

from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter


def on_files(files: Files, config: Any) -> Files:
    """Add a page, and its pictures, for every notebook."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = notebook.src_uri.removesuffix(".ipynb")
        text, resources = MarkdownExporter().from_filename(notebook.abs_src_path)
        for name, picture in resources["outputs"].items():
            text = text.replace(f"]({name})", f"]({page.rpartition('/')[2]}_{name})")
            files.append(File.generated(config, f"{page}_{name}", content=picture))
        link = f"[Download this notebook]({notebook.src_uri.rpartition('/')[2]})\n\n"
        files.append(File.generated(config, f"{page}.md", content=link + text))
    return files


def on_page_markdown(text: str, **_: Any) -> str:
    """Links to notebooks, which GitHub shows, lead to their pages."""
    return re.sub(r"\]\((notebooks/\w+)\.ipynb\)", r"](\1.md)", text)
