"""Documents as people read them: Markdown, and pages that need nothing else."""

from collections.abc import Iterator
from html import escape

from transforms.notice import Document, Section

_STYLE = """:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.55 system-ui, sans-serif; margin: 2.5rem auto; padding: 0 1.2rem; max-width: 52rem; }
h1 { font-size: 1.9rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-size: .92em; }
th, td { border-bottom: 1px solid var(--line); padding: .45rem .6rem .45rem 0; text-align: left; vertical-align: top; }
li { margin: .2rem 0; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } tr { break-inside: avoid; } }"""


def write_markdown(document: Document) -> str:
    """Write a document as Markdown."""
    lines = [f"# {document.title}", ""]
    for section in document.sections:
        lines += [f"## {section.title}", "", *_write_section(section)]
    return "\n".join(lines).rstrip() + "\n"


def write_page(document: Document) -> str:
    """Write a document as an HTML page, its style with it."""
    body = "\n".join(part for section in document.sections for part in _mark_up(section))
    return (
        f'<!doctype html>\n<html lang="{document.language}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(document.title)}</title>'
        f"<style>\n{_STYLE}\n</style></head><body>\n<h1>{escape(document.title)}</h1>\n{body}\n</body></html>\n"
    )


def _write_section(section: Section) -> Iterator[str]:
    for paragraph in section.paragraphs:
        yield from (paragraph, "")
    if section.items:
        yield from (f"* {item}" for item in section.items)
        yield ""
    for number, row in enumerate(section.rows):
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
        if number == 0:
            yield "|" + " --- |" * len(row)
    if section.rows:
        yield ""


def _mark_up(section: Section) -> Iterator[str]:
    yield f"<h2>{escape(section.title)}</h2>"
    yield from (f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs)
    if section.items:
        yield "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in section.items) + "</ul>"
    if section.rows:
        head, *body = section.rows
        yield "<table><thead><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr></thead><tbody>"
        yield from ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
        yield "</tbody></table>"
