"""The authenticity report: a part that is measured anew replaces its section alone."""

from ops.bench.authenticity import replaced

REPORT = "# Title\n\nintro\n\n## One\n\n1\n\n## Two\n\n2\n"


def test_one_section_is_replaced() -> None:
    assert replaced(REPORT, "One", "how", ["new", ""]) == "# Title\n\nintro\n\n## One\n\nhow\n\nnew\n\n## Two\n\n2\n"
    assert replaced(REPORT, "Two", "how", ["new"]) == "# Title\n\nintro\n\n## One\n\n1\n\n## Two\n\nhow\n\nnew\n"


def test_a_section_that_is_not_there_comes_last() -> None:
    assert replaced(REPORT, "Three", "how", ["3"]).endswith("## Two\n\n2\n\n## Three\n\nhow\n\n3\n")
