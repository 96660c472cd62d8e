"""The public names, and the examples of the page that explains them."""

import doctest
import subprocess
import sys

import pytest

import vtg_lib
from vtg_lib.files import ROOT


def test_the_examples_of_the_page_run():
    text = (ROOT / "book" / "library.md").read_text(encoding="utf-8")
    example = doctest.DocTestParser().get_doctest(text, {}, "library.md", "book/library.md", 0)
    failed, tried = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example)
    assert tried > 10 and failed == 0


def test_every_public_name_is_there_and_documented():
    for name in vtg_lib.__all__:
        assert getattr(vtg_lib, name).__doc__, name
        assert f"`{name}`" in (vtg_lib.__doc__ or ""), name
    with pytest.raises(AttributeError, match="no attribute 'metrics'; it has Machine"):
        vtg_lib.metrics  # noqa: B018


def test_the_package_alone_is_light():
    code = "import sys, vtg_lib; dir(vtg_lib); assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
