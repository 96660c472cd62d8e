"""Tables link methods to their papers, code links to its file, and every key and address is of an entry."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from vtg_lib.book import contents, references, sources, tables
from vtg_lib.book.compared import render
from vtg_lib.models import MODELS
from vtg_lib.models.sdst import SDST, detection_losses
from vtg_lib.papers import load_paper, paper_keys
from vtg_lib.papers.comparison import compare

ROOT = Path(__file__).resolve().parents[2]
WORKS = references.references()
ADDRESS = re.compile(r"https://(arxiv\.org/abs/\d{4}\.\d{5}|[\w.-]+/\S+)")


def test_keys_and_names_are_unique_and_addresses_well_formed():
    for what in ([work.key for work in WORKS], [name for work in WORKS for name in work.names]):
        assert len(set(what)) == len(what)
    assert WORKS and all(ADDRESS.fullmatch(work.address) for work in WORKS if work.address)


def test_every_paper_and_every_method_of_the_library_has_an_entry():
    methods = [paper.method for paper in map(load_paper, paper_keys()) if paper.method]
    assert methods and all(references.find(method) for method in methods)
    bare = {re.sub(r"\W", "", name).lower() for work in WORKS for name in work.names}
    for model in set(MODELS) - {
        "untuned",
        "sa_qd_detr",
        "sa_tr_detr",
    }:  # rows of tables, no methods of their own
        assert model.replace("_", "") in bare


@pytest.mark.parametrize("key", paper_keys())
def test_every_row_that_names_a_method_links_to_its_paper(key):
    paper, seen = load_paper(key), 0
    for table_id, results in compare(paper, []).items():
        shown = render(results)
        heads = re.findall(r'<th class="label" scope="rowgroup"[^>]*>(.*?)</th>', shown)
        for row, head in zip(results.table.rows, heads, strict=False):
            work = references.find(re.split("[†*,]", row.label)[0])
            if work is not None and work.address:
                seen += 1
                assert re.findall(r'href="([^"]+)"', head) == [work.address], (table_id, row.label)
    assert seen


OWN = {None, "sim_detr", "sa_detr", "sdst", "sg_detr", "td_detr"}  # methods of chapters: rows are variants


def test_rows_that_run_a_method_under_its_name_have_an_entry():
    """What else is a label of a row without an entry: the paper's own variants, and no method."""
    rows = [row for key in paper_keys() for table in load_paper(key).tables for row in table.rows]
    quoted = {row.label for row in rows if row.source != "run" or row.model not in OWN}
    without = {label for label in quoted if "href" not in references.linked(label)}
    known = "Ours|Perm|Mean|Chosen|w/o|Architecture|Opt|Data|Base|baseline|QVHighlights|Charades-STA|TACoS"
    assert not {label for label in without if not re.match(known, label)}


@pytest.mark.parametrize(
    ("label", "key"),
    [("XML", "xml"), ("XML+", "momentdetr"), ("TR-DETR, 10", "trdetr"), ("Baseline (TR-DETR)", "trdetr")],
)
def test_a_name_is_found_whole_within_a_label(label, key):
    address = next(work.address for work in WORKS if work.key == key)
    assert re.findall(r'href="([^"]+)"', references.linked(label)) == [address]


def test_what_names_no_method_is_escaped_and_has_no_link():
    assert references.linked("<b> & LSTM, XMLish, re-UMT") == "&lt;b&gt; &amp; LSTM, XMLish, re-UMT"


def test_a_page_table_links_its_first_column():
    shown = tables.table([{"method": "QD-DETR", "mAP": 39.9}]).data
    assert 'href="https://arxiv.org/abs/2303.13874"' in shown and "39.90" in shown


def test_pages_cite_keys_that_exist():
    cited = {
        key.strip()
        for path in (ROOT / "book").glob("*.md")
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", path.read_text(encoding="utf-8"))
        for key in keys.split(",")
    }
    assert cited and cited <= {work.key for work in WORKS}
    assert "references" in contents.ABOUT


@pytest.mark.parametrize("item", [SDST, SDST.loss, detection_losses])
def test_code_links_to_the_place_where_it_begins(item):
    link = sources.link(item)
    path, name = re.search(r'href="\.\./([^"#]+)#([^"]+)"', link).groups()
    code = (ROOT / path).read_text(encoding="utf-8")
    line = next(line for line, names in sources.anchors(code).items() if name in names)
    assert line == inspect.getsourcelines(item)[1] and f"lines {line} to " in link


def test_links_of_a_chapter_lead_to_pages_that_are_made(tmp_path):
    from sphinx.highlighting import PygmentsBridge

    text = sources.to_pages(f"{sources.link(SDST.loss)} and ../vtg_lib/models/sdst.py alone")
    assert '"../vtg_lib/models/sdst.py.html#SDST.loss"' in text and text.endswith(
        "../vtg_lib/models/sdst.py alone"
    )
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "03.ipynb").write_text(text, encoding="utf-8")
    app = SimpleNamespace(
        srcdir=tmp_path, builder=SimpleNamespace(highlighter=PygmentsBridge("html", "default"))
    )
    ((name, context, template),) = sources.pages(app)
    assert (name, template) == ("vtg_lib/models/sdst.py", "page.html")
    assert '<span id="SDST.loss"></span>' in context["body"] and context["body"].count("<h1>") == 1
