import json
import sys
import time

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runwait.api import json_body
from runwait.api.json_body import ORJSON_DEPTH, InvalidJSON, parse
from runwait.serialization import dumps
from tests.strategies import ANY_SPEED, JSON


def reason(raw):
    with pytest.raises(InvalidJSON) as refused:
        parse(raw)
    return str(refused.value)


@ANY_SPEED
@given(JSON, st.booleans(), st.sampled_from([None, 0, 1, "\t"]))
def test_what_a_json_encoder_writes_is_read(value, ascii_only, indent):
    raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert parse(raw) == value


@ANY_SPEED
@given(st.binary() | st.text(alphabet='[]{}",:\\ud8c0123e-. ').map(str.encode))
@example(b'{"a":1,"a":1}')
def test_any_bytes_are_read_as_the_standard_library_does_or_refused(raw):
    try:
        value = parse(raw)
    except InvalidJSON as error:
        assert str(error)
    else:
        assert value == json.loads(raw)
        assert raw.decode()


# Documents as texts: with names that come again, colons wherever they may be, and long numbers.
_STRINGS = st.sampled_from(
    ['"a"', '":"', r'"\u003a"', r'"\u003A"', r'"\":"', r'"\\u003a"', r'"\n"']
)
_NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?(e-?[0-9]{1,3})?", fullmatch=True)
_SPACES = st.sampled_from(["", " ", "\n"])


def _objects(inner):
    members = st.tuples(_STRINGS, _SPACES, inner).map(lambda each: f"{each[0]}{each[1]}:{each[2]}")
    return st.lists(members, max_size=4).map(lambda each: "{" + ",".join(each) + "}")


_TEXTS = st.recursive(
    _STRINGS | _NUMBERS,
    lambda inner: _objects(inner) | st.lists(inner, max_size=3).map(lambda e: f"[{','.join(e)}]"),
)


@ANY_SPEED
@given(_TEXTS.map(str.encode))
@example(b'{"a":1,"a":1}')
@example(rb'{"a":1,"a":"\u003a"}')
@example(b'{"a":":","a":1}')
@example(b'{"a" :1,"a":1}')
@example(b"9223372036854775808")
@example(b"18446744073709551616")
@example(b"-9223372036854775809")
def test_what_is_read_at_once_is_what_is_read_slowly(raw):
    try:
        value = json_body._parse_slowly(raw)
    except InvalidJSON as error:
        assert reason(raw) == str(error)
    else:
        # repr: 1 is not 1.0, nor 0.0 -0.0.
        assert repr(parse(raw)) == repr(value)


def test_orjson_writes_so_many_levels_and_no_more():
    value = 0
    for _ in range(ORJSON_DEPTH):
        value = [value]
    orjson.dumps(value)
    with pytest.raises(orjson.JSONEncodeError):
        orjson.dumps([value])


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"null", None),
        (b" \t\r\n[1, 2.50, -0.0, 1e3]\n", [1, 2.5, -0.0, 1000.0]),
        (b'"\\u00e9\\n\\ud83d\\ude00\\uD83D\\uDE00"', "é\n😀😀"),
        ('"é😀\u2028"'.encode(), "é😀\u2028"),
        (b'{"a": {"a": {}}, "": []}', {"a": {"a": {}}, "": []}),
        (b'{"\\\\ud800": "\\\\\\\\ud800"}', {"\\ud800": "\\\\ud800"}),
        (b"1.7976931348623157e308", sys.float_info.max),
        (b"1e-999", 0.0),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_json_is_read(raw, value):
    assert parse(raw) == value
    assert type(parse(raw)) is type(value)


def test_integers_stay_integers_and_floats_floats():
    assert [type(number) for number in parse(b"[5, 5.0, 5e0]")] == [int, float, float]


@pytest.mark.parametrize("raw", [b"", b" ", b"\r\n\t"])
def test_an_empty_body_is_refused(raw):
    assert reason(raw) == "it is empty"


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (b"\xff", 0),
        (b'{"a": "\xe9"}', 7),
        (b'"\xed\xa0\x80"', 1),  # a surrogate, encoded by itself
        (b'"\xc0\xaf"', 1),  # longer than it need be
        (b'"\xf0\x9f\x98"', 1),
        ('"é"'.encode("utf-16"), 0),
        ('"é"'.encode("utf-16-le"), 2),
    ],
)
def test_what_is_not_utf_8_is_refused(raw, where):
    assert reason(raw) == f"byte {where} is not UTF-8"


@pytest.mark.parametrize("raw", [b'\xef\xbb\xbf{"a": 1}', b"\xef\xbb\xbf"])
def test_a_byte_order_mark_is_refused(raw):
    assert reason(raw) == "it begins with a byte order mark"


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-32-be"])
def test_other_encodings_of_ascii_are_refused(encoding):
    reason('{"a": 1}'.encode(encoding))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("around", ["{}", "[1, {}]", '{{"a": {}}}'])
def test_nan_and_infinities_are_refused_by_name(text, around):
    assert reason(around.format(text).encode()) == f"JSON has no {text}"


@pytest.mark.parametrize("text", ["1e999", "-1e999", "1.8e308", "1" + "0" * 400 + ".0"])
def test_a_number_beyond_a_double_is_refused(text):
    assert "is beyond a double" in reason(f'{{"a": [{text}]}}'.encode())


@pytest.mark.parametrize("sign", ["", "-"])
def test_integers_may_have_4300_digits_and_no_more(sign):
    assert parse(f"[{sign}{'9' * 4300}]".encode()) == [int(f"{sign}{'9' * 4300}")]
    assert reason(f"[{sign}{'9' * 4301}]".encode()) == "an integer has more than 4300 digits"


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "'a'"),
        (b'[{"x": {"": 1, "": 2}}]', "''"),
        (b'{"\\u0061": 1, "a": 2}', "'a'"),
        ('{"😀": 1, "\\ud83d\\ude00": 2}'.encode(), "'😀'"),
        (b'{"a\\nb": 1, "a\\nb": 2}', "'a\\nb'"),
    ],
)
def test_a_name_twice_in_one_object_is_refused_and_named(raw, name):
    assert reason(raw) == f"the name {name} is there twice in one object"


def test_a_name_may_come_again_in_another_object():
    assert parse(b'[{"a": {"a": 1}}, {"a": 2}]') == [{"a": {"a": 1}}, {"a": 2}]


@pytest.mark.parametrize(
    "text",
    [
        r"\ud800",
        r"\uDFFF",
        r"a\ud83d",
        r"\ud83dx",
        r"\ud83d\n",
        r"\ude00\ud83d",
        r"\ud83d\ud83d\ude00",
        r"\ud83d\ude00\ude00",
        r"\\\ud800",
        r"\ud83d\\ude00",
        r"\ud83d\u0041",
    ],
)
@pytest.mark.parametrize("around", ['"{}"', '["\\u00e9", "\\\\", "{}"]', '{{"{}": 1}}'])
def test_half_of_a_surrogate_pair_is_refused(text, around):
    raw = around.format(text).encode()
    assert "half of a surrogate pair" in reason(raw)
    with pytest.raises(UnicodeEncodeError):
        json.dumps(json.loads(raw), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"{", "Expecting property name"),
        (b"[1 2]", "Expecting ',' delimiter at line 1 column 4"),
        (b'{"a": 1}\n{}', "Extra data at line 2 column 1"),
        (b"{} x", "Extra data"),
        (b"{'a': 1}", "Expecting property name"),
        (b'"abc', "Unterminated string starting at line 1 column 1"),
        (b'"a\tb"', "Invalid control character at line 1 column 3"),
        (b'"\\x"', "Invalid \\escape at line 1 column 2"),
        (b'"\\u12"', "Invalid \\uXXXX escape at line 1 column"),
        (b"nul", "Expecting value at line 1 column 1"),
        (b"01", "Extra data"),
        (b"+1", "Expecting value"),
        (b".5", "Expecting value"),
        (b"1.", "Extra data"),
        (b"// x\n1", "Expecting value"),
        ("\u00a01".encode(), "Expecting value"),
        ("１".encode(), "Expecting value"),
    ],
)
def test_what_is_not_json_is_refused_with_the_place(raw, text):
    assert text in reason(raw)


@pytest.mark.parametrize("raw", [b"[1,]", b'{"a":1,}', b"[,1]", b'{"a"}', b'{"a":}', b"{1: 2}"])
def test_an_array_or_object_that_is_not_well_formed_is_refused(raw):
    assert "line 1 column" in reason(raw)


@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"[":', b"}]")]
)
def test_nesting_of_200_is_read_and_written_back_and_more_is_refused(opening, closing):
    levels = len(opening.replace(b'"["', b"").translate(None, b'"a:'))
    raw = opening * (200 // levels) + b"1" + closing * (200 // levels)
    assert dumps(parse(raw)) == raw
    assert reason(b"[" + raw + b"]") == "it is nested deeper than 200 levels"
    assert reason(b'{"x": [], "a":' + raw + b"}") == "it is nested deeper than 200 levels"


def test_an_empty_array_is_a_level():
    assert parse(b"[" * 200 + b"]" * 200)
    reason(b"[" * 201 + b"]" * 201)


@pytest.mark.parametrize(
    "text", ["[" * 500, '\\"' + "{" * 500, "\\\\", "\\\\\\" + '"' + "[" * 500, "]" * 500 + "\\\\"]
)
def test_brackets_in_strings_are_no_nesting(text):
    raw = f'["{text}", {"[" * 199}"{text}"{"]" * 199}, {{"{text}": "{text}"}}]'.encode()
    assert parse(raw) == json.loads(raw)
    assert "nested" in reason(b"[" + raw + b"]")


def test_many_arrays_side_by_side_are_no_nesting():
    raw = b"[" + b"[[]]," * 1000 + b"{}]"
    assert parse(raw) == json.loads(raw)


@ANY_SPEED
@given(st.lists(st.text('[]{}"\\\\a,:é')), st.integers(197, 203))
def test_nesting_is_counted_whatever_the_strings_hold(texts, depth):
    strings = ",".join(json.dumps(text) for text in texts)
    raw = f"{'[' * depth}{strings}{']' * depth}".encode()
    if depth <= 200:
        assert parse(raw) == json.loads(raw)
    else:
        assert "nested" in reason(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 10_000_000,
        b'{"a":' * 2_000_000,
        b"[" * 5_000_000 + b"]" * 5_000_000,
        b'["\\"",' * 1_000_000,
        b'[{"a":' * 100_000 + b"1" + b"}]" * 100_000,
    ],
    ids=len,
)
def test_endless_nesting_is_refused_at_once(raw):
    began = time.process_time()
    assert reason(raw) == "it is nested deeper than 200 levels"
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    "raw",
    [
        b'"' * 1_000_000,
        b'["' + b"\\" * 1_000_001,
        b'["' + b'\\"' * 1_000_000,
        b'["' + b"\\ud83d\\ude00" * 100_000 + b'"',
        b"1" * 1_000_000,
        b"1e" + b"9" * 1_000_000,
        b"]" * 1_000_000,
        b"[]" * 500_000,
        b'{"a":"' * 200_000,
    ],
    ids=len,
)
def test_a_large_body_that_is_not_json_is_refused_at_once(raw):
    began = time.process_time()
    reason(raw)
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    "raw",
    [
        b'{"%s": 1, "%s": 2}' % (b"n" * 10_000, b"n" * 10_000),
        b"1e" + b"9" * 10_000,
        b"x" * 10_000,
        b'"' + b"\\q" * 10_000,
        b"NaN" * 10_000,
    ],
)
def test_a_refusal_repeats_little_of_the_body(raw):
    assert len(reason(raw)) < 160
