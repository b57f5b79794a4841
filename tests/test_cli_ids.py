"""Reading ids: what people have, and one complaint for each cause."""

from __future__ import annotations

import csv
import io
import json
import re

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
    bad: int = 0


def read(text: str | bytes, column: str | None = None) -> Read:
    reader = Ids(column)
    ids = list(reader.read(io.BytesIO(text if isinstance(text, bytes) else text.encode()), "in"))
    return Read(ids, reader.faults.sentences(), reader.faults.complaint(), reader.faults.lines)


def places(faults: list[str]) -> list[int]:
    """Return the lines that complaints name."""
    others = (re.search(r"\(the same in lines? ([\d, ]+)\)$", fault) for fault in faults)
    named = [int(number) for found in others if found for number in found[1].split(", ")]
    return sorted([int(fault.split(":")[1]) for fault in faults] + named)


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
        # As spreadsheets write it.
        '"Conference ID";"Name"\r\n"conf-1";"x"\r\n"conf-2";"a,b"\r\n',
        "sep=;\r\nName;CONFERENCE_ID\r\na,b;conf-1\r\n;conf-2\r\n;;\r\n",
        '"sep=\t"\r\nid\tName\r\nconf-1\ta;b\r\nconf-2\t\r\n',
        "name\tconferenceId\na, b\tconf-1\n\tconf-2\n",
        "id;name\nconf-1;a,b\nconf-2;c\n",
        # An index without a name, as pandas writes it.
        "\tid\n0\tconf-1\n1\tconf-2\n",
        ",id\n0,conf-1\n1,conf-2\n",
        "id,\nconf-1,\nconf-2,\n",
        "Conference-Id\nconf-1\nconf-2\n",
        # The column of another table's rows is not that of the conferences.
        "id,conference_id\n1,conf-1\n2,conf-2\n",
        # As programs write it.
        '"conf-1"\n"conf-2"\n',
        "'conf-1',\n'conf-2'\n,\n",
        "conf-1;\n conf-2\t\n",
        '["conf-1", "conf-2"]',
        '[\n  "conf-1",\n  "conf-2",\n]\n',
        '# of the REST API\n[{"id": "conf-1", "tag": {"id": "x"}},\n{"conferenceId": "conf-2"}]',
        '[{"id": 1, "conference_id": "conf-1"}]\n[{"Conference ID": "conf-2"}]\n',
        '{\n  "id": "conf-1"\n}\n{\n  "id": "conf-2"\n}\n',
        '{"id": "conf-1"}\n{"conferenceId": "conf-2"}\n',
    ],
)
def test_every_format_gives_the_same_ids(text: str) -> None:
    """One id a line, columns with any usual separator and header, JSON lines, or a JSON array."""
    assert read(text) == Read(["conf-1", "conf-2"])


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("Name;Meeting Room\na;conf-1\nb;conf-2\n", "Meeting Room"),
        ("Name;Meeting Room\na;conf-1\nb;conf-2\n", "meeting_room"),
        ("Name;Meeting Room\na;conf-1\nb;conf-2\n", "2"),
        ("a;conf-1\nb;conf-2\n", "2"),
        ("Nr,Konferenz\n1,conf-1\n2,conf-2\n", "2"),
        ("1,Conference ID\n", "2"),
        ("conf-1\nconf-2\n", "1"),
        ("2,1\nconf-1,x\nconf-2,y\n", "2"),
        ("conference_id,room\nx,conf-1\ny,conf-2\n", "room"),
        ('{"room": "conf-1", "id": "x"}\n{"room": "conf-2"}\n', "room"),
        ('[{"room": "conf-1"}, {"ROOM": "conf-2"}]', "room"),
    ],
)
def test_a_column_is_named_by_header_or_number(text: str, column: str) -> None:
    """A name wins over a number. With a number, the first row is a header only if it cannot be an id."""
    ids = [] if text.startswith("1,") else ["conf-1", "conf-2"]
    assert read(text, column) == Read(ids)


@pytest.mark.parametrize(
    ("text", "column", "sentence"),
    [
        ("a;b\nx;conf-1\n", "c", "in: there is no column 'c'; line 1 has: a, b"),
        ("a;b\nx;conf-1\n", "3", "in: there is no column '3'; line 1 has: a, b"),
        ("a;A \nx;conf-1\n", "A-", "in:1: the column A- is there 2 times"),
        ('{"id": "conf-1"}\n', "1", "in:1: a JSON object needs the key '1'"),
    ],
)
def test_a_column_that_is_not_there_is_told(text: str, column: str, sentence: str) -> None:
    """Nothing else is taken instead."""
    assert read(text, column).faults == [sentence]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"PK\x03\x04\x14\0\xff\xfe", "workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "workbook of an old Excel"),
        (b"SQLite format 3\0\x10", "use resume"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"\x7fELF\x02\0\0\xc0", "binary"),
        (b"\n<!DOCTYPE html>\n<title>Sign in</title>\n", "HTML"),
        (b"{\\rtf1\\ansi conf-1}", "rich text"),
        (b"conference_id   created_time\nconf-1   2026\nconf-2   2026\n", "--format jsonl"),
        (b"Name;Room\na;conf-1\nb;conf-2\n", "--column 1"),
        (b"a;conf-1\nb;conf-2\n", "--column 2"),
        (b"Conference\nconf-1\nconf-2\n", "looks like a header"),
        (b'["conf-1", "conf-2"', "item 2 is the last that can be read: the array is cut off there"),
        (b'["conf-1" "conf-2"]', "item 1 is the last that can be read: there is no comma behind it"),
        (b'["conf-1"] conf-2', "item 1 is the last that can be read: there is other text behind"),
        (b"[conf-1, conf-2]", "the beginning is the last that can be read"),
        (b'{\n"id": "conf-1"\n}\n{\n"id": "con', "item 1 is the last"),
    ],
)
def test_a_wrong_file_is_one_complaint_with_its_remedy(content: bytes, word: str) -> None:
    """Not one for each line."""
    found = read(content)
    assert len(found.faults) == 1
    assert word in found.faults[0]
    assert found.complaint is not None
    assert found.complaint.splitlines()[1:] == ["the input cannot be used; nothing was sent"]


@pytest.mark.parametrize("length", [1, 70_000, 5_000_000])
def test_an_array_is_read_in_parts(length: int) -> None:
    """An item may lie across the parts. One of millions of characters is no item."""
    items = [{"id": f"conf-{number}", "note": "[]," * 9} for number in range(5_000)]
    items[3]["note"] = "é" * length
    found = read(json.dumps(items, ensure_ascii=False))
    assert len(found.ids) == (3 if length > 1_000_000 else 5_000)
    assert len(found.faults) == (1 if length > 1_000_000 else 0)


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
    ("text", "lines"),
    [
        ("conf-1\na/b\nconf-2\n..\n%2f\nx y\n", [2, 4, 5, 6]),
        ("conf-1\nconf-2,x\n[conf-3]\n", [2, 3]),
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
def test_every_bad_line_is_told_with_its_number(text: str | bytes, lines: list[int]) -> None:
    """All bad lines come at once, so that the user can correct the file in one go."""
    assert places(read(text).faults) == lines


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


def test_a_cause_is_told_once() -> None:
    """A wrong file of a million lines does not flood the terminal, and hides no other cause."""
    complaint = read("a b\n" * 250 + "c/d\n" + "é \n{}\n" * 3).complaint
    assert complaint is not None
    shown, slash, brace, total = complaint.splitlines()
    assert shown.startswith("in:1: 'a b' is no conference id: ")
    assert shown.endswith(" (the same in lines 2, 3, 4, 5, 6 and 244 more)")
    assert slash.startswith("in:251: 'c/d' is no conference id: ")
    assert brace.startswith("in:253: '{}' is neither one id")
    assert brace.endswith(" (the same in lines 255, 257)")
    assert total == "254 lines of the input cannot be used; nothing was sent"


def test_a_text_that_is_cut_keeps_its_quotes() -> None:
    """What is left out is not part of the text."""
    (fault,) = read(f"conf-1 {'x' * 100}\n").faults
    assert fault.startswith(f"in:1: 'conf-1 {'x' * 63}'… is no conference id: ")


@pytest.mark.parametrize(("value", "cause"), [("null", "null"), ("5", "no text"), ('""', "empty")])
def test_a_value_that_is_no_text_is_told_in_words_of_json(value: str, cause: str) -> None:
    """JSON has no None."""
    assert read(f'{{"id": {value}}}\n').faults == [f"in:1: the id is {cause}"]
    assert read(f"[{value}]").faults == [f"in, item 1: the id is {cause}"]


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
    # Spreadsheets end a list with rows of separators.
    blank = ",;\t " if first == "conf-1" else ""
    told = [one for one in [first, *lines] if one.strip().strip(blank) and not one.lstrip().startswith("#")]
    assert len(found.ids) + found.bad == len(told)


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
