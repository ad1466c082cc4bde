"use strict";
{
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const make = (tag, text, at = {}) => Object.assign(document.createElement(tag), { textContent: text }, at);
  const button = (text, act) => make("button", text, { type: "button", onclick: act });

  // Sections fold: a link into one opens it, so do the two buttons, and so does printing.
  const reveal = place => {
    for (let e = place; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    place?.scrollIntoView();
  };
  const target = () => document.getElementById(decodeURIComponent(location.hash.slice(1)));
  addEventListener("hashchange", () => reveal(target()));
  all("nav a").forEach(a => a.addEventListener("click", () => a.hash === location.hash && reveal(target())));
  if (location.hash) reveal(target());
  const folds = "main details:not(.menu, .whole)"; // the whole record of a run stays folded: it is for programs
  const fold = open => all(folds).forEach(d => (d.open = open));
  if (document.querySelector("main details.section")) {
    const both = make("p", "", { className: "folds" });
    both.append(button("Open all", () => fold(true)), button("Close all", () => fold(false)));
    document.querySelector("nav")?.append(both);
  }
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all(folds).filter(d => !d.open);
    closed.forEach(d => (d.open = true));
    all("video").forEach(v => (v.controls = false));
  });
  addEventListener("afterprint", () => {
    closed.forEach(d => (d.open = false));
    all("video").forEach(v => (v.controls = true));
  });

  // The navigation marks where one is.
  const links = all("nav a"), places = links.map(a => document.getElementById(a.hash.slice(1)));
  const mark = () => {
    const passed = places.filter(p => p.getBoundingClientRect().top < innerHeight / 4).length;
    links.forEach((a, i) => {
      if (i !== passed - 1) return a.removeAttribute("aria-current");
      if (!a.hasAttribute("aria-current") && a.parentElement.scrollWidth > a.parentElement.clientWidth)
        a.parentElement.scrollTo({ left: a.offsetLeft - 24 });
      a.setAttribute("aria-current", "true");
    });
  };
  if (links.length) {
    addEventListener("scroll", () => requestAnimationFrame(mark), { passive: true });
    mark();
  }

  // Tables sort by a click on a heading: up, down, as they were.  What is missing comes last.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.sort === undefined) return cell.textContent.trim();
    return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  all(".table table").forEach(table => {
    const body = table.tBodies[0], original = [...body.rows], heads = all("thead th[scope=col]", table);
    if (original.length < 2) return;
    heads.forEach(head => {
      const sort = button("", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[head.ariaSort ?? "none"];
        heads.forEach(other => (other.ariaSort = other === head ? next : "none"));
        const rows = [...original], sign = next === "ascending" ? 1 : -1, column = head.cellIndex;
        if (next !== "none")
          rows.sort((r, s) => {
            const a = key(r, column), b = key(s, column);
            return a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b);
          });
        body.append(...rows);
      });
      sort.append(...head.childNodes);
      head.append(sort);
      head.ariaSort = "none";
    });
  });

  // Copying and saving: the files of a table are in the page, as `avrobust report --tables` writes them.
  const copy = async (text, from) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", text);
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const said = from.textContent;
    from.textContent = "Copied";
    setTimeout(() => (from.textContent = said), 1200);
  };
  const save = (text, name) => {
    const link = make("a", "", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: name });
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const files = JSON.parse(document.getElementById("table-files").textContent);
  const called = { csv: "CSV", json: "JSON", tex: "LaTeX" };
  all(".table").forEach(box => {
    const mine = files[box.id];
    if (!mine) return;
    const menu = make("details", "", { className: "menu" }), list = make("div", "", { className: "choices" });
    for (const [kind, name] of Object.entries(called)) {
      const copying = button(`Copy ${name}`, () => copy(mine[kind], copying));
      list.append(copying, button(`Save .${kind}`, () => save(mine[kind], `${mine.name}.${kind}`)));
    }
    menu.append(make("summary", "Export"), list);
    menu.addEventListener("keydown", e => {
      if (e.key !== "Escape") return;
      menu.open = false;
      menu.firstChild.focus();
    });
    box.prepend(menu);
  });
  document.addEventListener("click", e => all(".menu[open]").forEach(m => m.contains(e.target) || (m.open = false)));
  all("pre").forEach(pre => {
    const text = pre.textContent, copying = button("Copy", () => copy(text, copying));
    copying.className = "copy";
    pre.append(copying);
  });

  // Only one clip plays at a time.
  document.addEventListener("play", e => all("audio, video").forEach(m => m !== e.target && m.pause()), true);
}
