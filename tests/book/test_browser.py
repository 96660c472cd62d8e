"""The look at rendered pages: faults that are put in are found, and a clean page has none."""

import shutil

import pytest

from vtg_lib.book import browser
from vtg_lib.files import ROOT

DARK = "html[data-theme=dark] body { background: #111; color: #eee } html[data-theme=dark] a { color: #8cf }"
PAGE = (
    "<!doctype html><html><head><title>t</title><style>%s</style></head><body><main>%s</main></body></html>"
)
CLEAN = '<h1 id="a">Title</h1><p>Text and <a href="#a">a link</a>, <a href="other.html">another</a>.</p>'
FAINT, WIDE = '<p style="color: #bbb">faint</p>', '<p style="width: 3000px">wide</p>'
DEAD = '<img src="data:image/png;base64,iVBORw0KGgo="><a href="#nowhere">x</a><a href="gone.html">y</a>'
BROKEN = '<script>throw new Error("broken")</script>'


def write(folder, name, *parts):
    (folder / name).write_text(PAGE % (DARK, "".join(parts)), encoding="utf-8")


def test_links_to_files_that_are_not_there(tmp_path):
    write(tmp_path, "other.html", '<p id="there">')
    places = '<a href="other.html#there">p</a><a href="other.html#away">q</a>'
    outside = '<a href="https://a.b/c">z</a><a href="data:text/csv,1">d</a>'
    write(tmp_path, "page.html", CLEAN, DEAD, places, outside)
    assert browser.dead_files(tmp_path / "page.html") == ["gone.html", "other.html#away"]


def test_a_browser_is_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("VTG_BROWSER", "/some/browser")
    assert browser.find_browser() == "/some/browser"
    monkeypatch.delenv("VTG_BROWSER")
    monkeypatch.setenv("PATH", "")
    assert browser.find_browser() is None and browser.main([]) == 0


@pytest.mark.skipif(browser.find_browser() is None, reason="no Chromium here")
def test_faults_are_found_and_a_clean_page_has_none(tmp_path, capsys):
    write(tmp_path, "other.html", CLEAN)
    assert browser.main([str(tmp_path)]) == 0 and "0 faults" in capsys.readouterr().out
    write(tmp_path, "page.html", CLEAN, FAINT, WIDE, DEAD, BROKEN)
    found = browser.look(tmp_path / "page.html", browser.find_browser(), width=480)
    assert found["low contrast"] == ["1.9: faint"] and found["dead links"] == ["nowhere"]
    assert found["scrolls sideways"] and len(found["pictures without words"]) == 1
    assert any("broken" in error for error in found["script errors"])
    assert browser.main([str(tmp_path)]) == 1
    assert "page.html (light, 1200 px): 1 low contrast: 1.9: faint" in capsys.readouterr().out


DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
CHART = (
    f'<figure class="vtg"><img alt="three points" src="{DOT}">'
    '<script type="application/json" class="vtg-spec">{}</script></figure>'
)
# In place of Vega: a chart with one mark that tells something when pointed at.
STUB = """window.vegaEmbed = async (box, spec) => {
  box.innerHTML = '<svg><text fill="INK" y="9">axis</text><g class="role-mark"><path d="M0,0L9,9"/>';
  const tip = document.createElement("div");
  tip.id = "vg-tooltip-element";
  box.querySelector("path").addEventListener("EVENT", () => tip.classList.add("visible"));
  document.body.append(tip);
  return { view: {} };
};"""


@pytest.mark.skipif(browser.find_browser() is None, reason="no Chromium here")
def test_charts_are_drawn_and_tell_something(tmp_path):
    def found(stub, theme="light"):
        (tmp_path / "_static" / "npm" / "vega.js").write_text(stub, encoding="utf-8")
        seen = browser.look(tmp_path / "page.html", browser.find_browser(), theme=theme)
        return {kind: examples for kind, examples in seen.items() if examples}

    (tmp_path / "_static" / "npm").mkdir(parents=True)
    shutil.copy(ROOT / "book" / "static" / "charts.js", tmp_path / "_static")
    write(tmp_path, "page.html", CHART)
    assert found("") == {}  # without the script the picture is what is to be seen
    write(tmp_path, "page.html", CHART, '<script src="_static/charts.js"></script>')
    good = STUB.replace("INK", "#222").replace("EVENT", "pointermove")
    assert found(good, "dark") == {}
    assert found(STUB.replace("INK", "#bbb").replace("EVENT", "pointermove"))["low contrast"] == ["1.9: axis"]
    assert found(good.replace("pointermove", "click")) == {"charts that tell nothing": ["three points"]}
    broken = "window.vegaEmbed = async () => { throw new Error('no such mark'); }"
    assert found(broken) == {"charts not drawn": ["three points"]}
