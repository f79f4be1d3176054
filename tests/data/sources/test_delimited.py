import pytest

from medres.data.sources.delimited import read_table
from medres.errors import DataError

PLAIN = "path,label,patient_id\na.png,benign,001\nb.png,maligno é,1\n"


def written(tmp_path, content):
    path = tmp_path / "labels.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(table):
    return [tuple(row.cells.values()) for row in table.rows]


DIALECTS = {
    "comma": PLAIN.encode(),
    "semicolon": PLAIN.replace(",", ";").encode(),
    "tab": PLAIN.replace(",", "\t").encode(),
    "byte order mark": PLAIN.encode("utf-8-sig"),
    "utf-16 of Excel": PLAIN.replace(",", "\t").encode("utf-16"),
    "cp1252": PLAIN.encode("cp1252"),
    "Windows line ends": PLAIN.replace("\n", "\r\n").encode(),
    "old Mac line ends": PLAIN.replace("\n", "\r").encode(),
    "Excel's declaration": ("sep=;\r\n" + PLAIN.replace(",", ";")).encode(),
    "blank lines": ("\n" + PLAIN.replace("\n", "\n\n")).encode(),
    "no last line end": PLAIN.rstrip().encode(),
    "all quoted": "\n".join(",".join(f'"{c}"' for c in line.split(",")) for line in PLAIN.splitlines()).encode(),
    "an index of pandas": b",path,label,patient_id\n0,a.png,benign,001\n1,b.png,maligno \xc3\xa9,1\n",
    "empty cells behind": b"path,label,patient_id,\na.png,benign,001,\nb.png,maligno \xc3\xa9,1,\n",
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_all_dialects_are_the_same_table(tmp_path, dialect):
    table = read_table(written(tmp_path, DIALECTS[dialect]))
    assert table.columns == ("path", "label", "patient_id")
    assert rows_of(table) == [("a.png", "benign", "001"), ("b.png", "maligno é", "1")]
    assert bool(table.notes) == (dialect == "cp1252")


def test_quotes_hold_delimiters_and_line_ends(tmp_path):
    table = read_table(written(tmp_path, 'path,label\n"a,1.png","two\nlines"\n"say ""x"".png",b\n'))
    assert rows_of(table) == [("a,1.png", "two\nlines"), ('say "x".png', "b")]


def test_rows_are_numbered_as_in_a_spreadsheet(tmp_path):
    table = read_table(written(tmp_path, "path,label\na,b\n\nc,d\n"))
    assert [row.number for row in table.rows] == [2, 4]


def test_blanks_are_kept_raw_left_out_in_text_and_noted(tmp_path):
    table = read_table(written(tmp_path, " path , label\na.png, x\nb.png,y\n"))
    assert table.columns == ("path", "label")
    assert (table.rows[0].cells["label"], table.rows[0].text("label")) == (" x", "x")
    assert table.notes == ("Blanks around text were left out in row 2.",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows below its header"),
        ("path,label\n", "has no rows below its header"),
        ("path,label\na,b,c\n", "row 2: 3 cells, but the header has 2"),
        ("path,label\na,b\n\na\n", "row 4: 1 cells, but the header has 2"),
        ("path,label,label\na,b,c\n", "two columns named label"),
        (b"\x81\x8d\x8f,\xff\n1,2\n", "is not text in UTF-8, UTF-16 or cp1252"),
        (b"\xff\xfea", "is not text"),
        (b"path,label\na,\x00b\n" + b'"' + b"x" * 200_000 + b'",y\n', "is not a table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_table(written(tmp_path, content))
    assert "labels.csv" in str(caught.value)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"gone.csv cannot be read"):
        read_table(tmp_path / "gone.csv")
