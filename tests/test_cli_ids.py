"""Reading ids: three formats, every bad line with its number."""

from __future__ import annotations

import csv
import io

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.cli.formats import Csv
from bandwidth_async.cli.ids import Ids


@define
class Read:
    """What was read of a text: its ids in order, and its bad lines."""

    ids: list[str] = field(factory=list)
    faults: list[str] = field(factory=list)
    complaint: str | None = None


def read(text: str | bytes) -> Read:
    reader = Ids()
    ids = list(reader.read(io.BytesIO(text if isinstance(text, bytes) else text.encode()), "in"))
    return Read(ids, reader.faults, reader.complaint())


@pytest.mark.parametrize(
    "text",
    [
        "conf-1\nconf-2\n",
        "conf-1\nconf-2",
        "\n# a comment\n  conf-1  \n\nconf-2\n#conf-3\n",
        "conf-1\r\nconf-2\r\n",
        "\ufeffconf-1\nconf-2\n",
        "conference_id\nconf-1\nconf-2\n",
        '# exported\nname,conference_id,tag\nfoo,conf-1,\n"a, b","conf-2",x\n',
        "conference_id, name\nconf-1 , foo\n# a comment\n\nconf-2, bar\n",
        "Conference_ID\nconf-1\nconf-2\n",
        '{"conference_id": "conf-1"}\n\n# more\n{"name": null, "conference_id": "conf-2"}\n',
        "conf-1\rconf-2\r",
        "\ufeffconference_id,name\rconf-1,x\rconf-2,y\r",
        '{"conference_id": "conf-1"}\r{"conference_id": "conf-2"}',
        'conference_id,name\nconf-1,"first line\n# second line\n\nlast line"\nconf-2,"c"\n',
        'conference_id,name\r\nconf-1,"first line\r\nlast line"\r\nconf-2,c\r\n',
        'name,conference_id\n"a ""b"", c",conf-1\n6" pipe,conf-2\n',
        'conference_id,name\n# "an open quote,"\nconf-1,x\n  # and "another\n conf-2,y\n',
        'conference_id\n"conf-1"  \n"conf-2"\t\n',
        "conference_id,name\nconf-1,x,,\nconf-2\n",
        'name,conference_id\n"#1",conf-1\n2,conf-2\n',
    ],
)
def test_every_format_gives_the_same_ids(text: str) -> None:
    """One id a line, CSV with a conference_id column, or JSON lines, with comments and blank lines."""
    assert read(text) == Read(["conf-1", "conf-2"])


@pytest.mark.parametrize("conference_id", ["conf-1", "=1+1", "-2", "@b"])
def test_the_csv_of_outcomes_can_be_read_back(conference_id: str) -> None:
    """CSV output never changes an id, whatever it begins with."""
    row = Csv(["conference_id"]).row({"conference_id": conference_id})
    assert read(f"conference_id\n{row}\n").ids == [conference_id]


def test_a_comment_that_may_be_a_row_is_a_fault() -> None:
    """A first cell such as #12 comes from a list of tickets: its conference must not be left out."""
    found = read("ticket,conference_id\n#12,conf-1\n# 13, a comment\n#14\n")
    assert found.ids == []
    assert found.faults == [
        "in:2: a comment or a row? put the cell that begins with # into quotes, or a blank behind the #"
    ]
    assert read("conference_id,name\n#conf-1,x\nconf-2,y\n").ids == ["conf-2"]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "conference_id\n"])
def test_an_empty_input_has_no_ids_and_no_faults(text: str) -> None:
    """An input without ids is no error."""
    assert read(text) == Read()


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("conf-1\na/b\nconf-2\n..\n%2f\nx y\n", [2, 4, 5, 6]),
        ("id,name\nconf-1,foo\n", [1, 2]),
        ('["conf-1", "conf-2"]\n', [1]),
        ("id\nconf-1\n", [1]),
        ("name,conference_id\nfoo,conf-1\nbar,\nbaz\n", [3, 4]),
        ('{"conference_id": "conf-1"}\n{"id": 1}\nnope\n{"conference_id": null}\n["x"]\n', [2, 3, 4, 5]),
        ("x" * 200_000 + ",y\n", [1]),
        ("conference_id\n" + "x" * 200_000 + "\nconf-1\n", [2]),
        (b"conf-1\nconf-\xff\nconf-2\n", [2]),
        ("conf-1\nconf-\u200b2\nconf-\x1b[31m\n", [2, 3]),
        ('conference_id,name\nconf-1,"sales\nconf-2,b\nconf-3,c\nconf-4,d\n', [2]),
        ('conference_id,name\nconf-1,6" pipe\nconf-2,"7"" pipe\nconf-3,x\nconf-4,y\n', [3]),
        ('conference_id,name\nconf-1,"sales\nconf-2,"b"\nconf-3,c\n', [2]),
        ('conference_id,name\nconf-1,"a"b\nconf-2,"c"d\nconf-3,e\n', [2, 3]),
        ('conference_id,name\n"conf\n-1",a\nb c,d\n', [2, 4]),
        ("conference_id,name,Conference_ID\nconf-1,a,conf-2\n", [1]),
        ('"conference_id\nconf-1",name\nconf-2,b\n', [1]),
        ("name,conference_id\nSales, EU,conf-1\nUS,conf-2\n", [2]),
        ('{"conference_id": "conf-1", "conference_id": "conf-2"}\n', [1]),
        ("conf-1\rx y\rconf-3", [2]),
        ("conf-1\nconf-\0002\nconf-3\n", [2]),
        ("name,conference_id\na\0b,conf-1\nb,conf-2\n", [2]),
        (b"name,conference_id\n\xff,conf-1\nb,conf-2\n", [2]),
        (b'{"conference_id": "conf-1", "name": "\xff"}\n', [1]),
        ("conf-1\nconf-2\n".encode("utf-16-le"), [1, 2, 3]),
    ],
)
def test_every_bad_line_is_told_with_its_number(text: str | bytes, places: list[int]) -> None:
    """All bad lines come at once, so that the user can correct the file in one go."""
    assert [int(fault.split(":")[1]) for fault in read(text).faults] == places


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_utf_16_is_one_fault(mark: str) -> None:
    """Windows tools write it, so it gets one fault and not one for each line."""
    text = "\ufeffconf-1\r\nconf-2\r\n"
    assert read(text.encode(mark)).faults == ["in: UTF-16 text; save it as UTF-8"]


def test_the_stream_stays_open() -> None:
    """Standard input is the caller's."""
    stream = io.BytesIO(b"conf-1\n")
    list(Ids().read(stream, "in"))
    assert not stream.closed


def test_a_complaint_shows_a_hundred_lines_and_counts_the_rest() -> None:
    """A wrong file of a million lines does not flood the terminal."""
    complaint = read("a b\n" * 250).complaint
    assert complaint is not None
    lines = complaint.splitlines()
    assert len(lines) == 102
    assert lines[-2:] == ["and 150 more", "250 lines of the input cannot be used; nothing was sent"]


def test_a_complaint_never_carries_control_characters() -> None:
    """The content of a file must not reach the terminal as commands."""
    complaint = read("conf-\x1b]0;evil\x07\nfoo,\x1b[2J\n").complaint
    assert complaint is not None
    assert all(character.isprintable() or character == "\n" for character in complaint)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_exception(data: bytes) -> None:
    """Any file is read as ids or faults."""
    found = read(data)
    assert all(id_ and id_.isprintable() for id_ in found.ids)


@given(st.lists(st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True), max_size=30))
def test_no_id_is_lost(ids: list[str]) -> None:
    """The ids are as many as the lines, duplicates included."""
    found = read("".join(f"{id_}\n" for id_ in ["first", *ids]))
    assert found.ids == ["first", *ids]


LINES = st.lists(
    st.text(st.sampled_from('ab1-#",;{} \t\0\ufeff\x1b\u2028\ud800'), max_size=8)
    | st.sampled_from(
        ['{"conference_id": "a"}', '{"conference_id": 1}', '{"conference_id":"a","conference_id":"b"}', "{}"]
    ),
    max_size=12,
)


@given(
    first=st.sampled_from(["conf-1", '{"conference_id": "conf-1"}']), lines=LINES, end=st.sampled_from("\n\r")
)
def test_no_line_is_dropped_in_silence(first: str, lines: list[str], end: str) -> None:
    """Lines in are ids and faults out, whatever they hold; only blanks and comments are not."""
    text = "".join(f"{line}{end}" for line in [first, *lines])
    found = read(text.encode(errors="surrogatepass"))
    told = [line for line in [first, *lines] if line.strip() and not line.lstrip().startswith("#")]
    assert len(found.ids) + len(found.faults) == len(told)


CELLS = st.text(st.sampled_from('ab1#",; \n\r\té'), max_size=10)
ROWS = st.lists(st.tuples(CELLS, st.from_regex(r"[A-Za-z0-9_-]{1,3}", fullmatch=True), CELLS), max_size=10)


@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n", "\r"]), note=st.sampled_from(["", '# a, "note', " "]))
def test_no_row_is_dropped_in_silence(rows: list[tuple[str, str, str]], end: str, note: str) -> None:
    """Every row of a valid table gives its id, whatever text is in the other cells."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=f"{end}{note}{end}", quoting=csv.QUOTE_ALL)
    writer.writerows([("name", "conference_id", "tag"), *rows])
    found = read(stream.getvalue())
    assert found.faults == []
    assert found.ids == [row[1] for row in rows]
