"""Walking a listing: the link to the next page in every form that RFC 8288 allows, and no silent end."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from bandwidth_async import wire
from bandwidth_async.errors import TransportError
from bandwidth_async.listing import Walk, path_of_next

ORIGIN = "https://voice.bandwidth.com"
HERE = "/api/v2/accounts/9900000/conferences"
PAGE = f"{HERE}?pageSize=2"
NEXT = f"{HERE}?pageToken=a%2Fb%2B&pageSize=2"
QUERY = NEXT.removeprefix(HERE)


@pytest.mark.parametrize(
    "links",
    [
        [f'<{NEXT}>; rel="next"'],
        [f"<{NEXT}>;rel=next"],
        [f'<{NEXT}>; rel="NEXT"'],
        [f'<{NEXT}>; REL="prev Next last"'],
        [f'<{NEXT}> ; title="a, <b>; rel=\\"prev\\"" ; rel = "next"'],
        [f'<{NEXT}>; rel="next"; rel="prev"'],
        [f"<{NEXT}>; title*=UTF-8''n%C3%A4chste; crossorigin; ; rel=next"],
        [f'<{HERE}?a=1,2;b=3>; rel="first", <{NEXT}>; rel="next"'],
        ['</first>; rel="first"', f'<{NEXT}>; rel="next"'],
        [f',, </first>; rel="first",,<{NEXT}>; rel="next",'],
        [f'<{QUERY}>; rel="next"'],
        [f'<conferences{QUERY}>; rel="next"'],
        [f'<./conferences{QUERY}>; rel="next"'],
        [f'<https://voice.bandwidth.com{NEXT}>; rel="next"'],
        [f'<http://voice-7.internal:8080{NEXT}>; rel="next"'],
        [f'<//10.0.0.7{NEXT}>; rel="next"'],
        [f'<{NEXT}#top>; rel="next"'],
        [f'<{NEXT}>; rel="next"; anchor=""'],
        [f'<{NEXT}>; rel="next"; anchor="http://internal{PAGE}"'],
        [f'<{NEXT}>; rel="next", <http://internal{NEXT}>; rel="next last"'],
    ],
)
def test_the_next_page_is_found(links: list[str]) -> None:
    """Its query is sent as it came, to the path and the host that we asked before."""
    assert path_of_next(links, ORIGIN + PAGE) == NEXT


@pytest.mark.parametrize(
    "links",
    [
        [],
        [""],
        [" , "],
        [f'<{NEXT}>; rel="prev"'],
        [f'<{NEXT}>; rel="nextish"'],
        [f'<{NEXT}>; rev="next"'],
        [f"<{NEXT}>"],
        [f'<{NEXT}>; rel="prev"; rel="next"'],
        [f'<{NEXT}>; title="rel=next"; rel="self"'],
        ['<https://elsewhere.example/x>; rel="help"'],
        [f'<{NEXT}>; rel="next"; anchor="/another/resource"'],
        [f'<{NEXT}>; rel="next"; anchor="#part"'],
    ],
)
def test_other_links_are_no_next_page(links: list[str]) -> None:
    """Another relation, the other direction, or the link of another resource."""
    assert path_of_next(links, ORIGIN + PAGE) is None


@pytest.mark.parametrize(
    "link",
    [
        "nonsense",
        f'{NEXT}; rel="next"',
        f'<{NEXT}; rel="next"',
        f'<{NEXT}>; rel="next',
        f'<{NEXT}> rel="next"',
        f'<{NEXT}>; rel="next" and more',
        '<http://internal/api/v2/accounts/9900001/conferences?pageToken=1>; rel="next"',
        '<http://voice.bandwidth.com/api/v2/accounts/9900000/calls?pageToken=1>; rel="next"',
        f'<https://voice.bandwidth.com:99999{HERE}/x>; rel="next"',
        f'<https://voice.bandwidth.com//evil.example{HERE}>; rel="next"',
        f'<https://voice.bandwidth.com.evil.example{HERE}/../calls>; rel="next"',
        f'<//evil.example/{HERE}>; rel="next"',
        '<mailto:me@example.com>; rel="next"',
        '<http://[::1/x>; rel="next"',
        f'<{NEXT}>; rel="next", <{HERE}?pageToken=2>; rel="next"',
        f'<{NEXT}\udc80>; rel="next"',
    ],
)
def test_what_cannot_be_followed_is_an_error(link: str) -> None:
    """A listing that stopped there would look complete."""
    with pytest.raises(ValueError, match=r".+"):
        path_of_next([link], ORIGIN + PAGE)


@pytest.mark.parametrize(
    "host", ["", ORIGIN, f"{ORIGIN}:443", "//voice.bandwidth.com", "HTTPS://Voice.Bandwidth.com"]
)
def test_another_path_of_our_own_host_is_followed(host: str) -> None:
    """It is the server's to say where its pages are; the credentials stay at their host."""
    assert path_of_next([f"<{host}/next?pageToken=1>; rel=next"], ORIGIN + PAGE) == "/next?pageToken=1"


def walked(walk: Walk, path: str, link: str, *ids: str) -> wire.Request[wire.Page] | None:
    """Return what a walk asks for after the page at ``path``."""
    body = "[" + ",".join(f'{{"id":"{one}"}}' for one in ids) + "]"
    headers = CIMultiDict({"Link": link} if link else {})
    request = wire.next_page(path)
    response = wire.Response(status=200, headers=headers, body=body.encode(), authorization="Bearer t0ken")
    return walk.after(request, request.read(response))


def test_a_walk_goes_on_until_no_page_follows() -> None:
    """Also over a page with nothing on it, as filters make them."""
    walk = Walk(ORIGIN)
    assert walked(walk, PAGE, f"<{HERE}?pageToken=1>; rel=next") == wire.next_page(f"{HERE}?pageToken=1")
    assert walked(walk, f"{HERE}?pageToken=1", "<?pageToken=2>; rel=next", "a") is not None
    assert walked(walk, f"{HERE}?pageToken=2", "", "b") is None


@pytest.mark.parametrize("link", ["<>; rel=next", f"<{PAGE}>; rel=next", "<#x>; rel=next"])
def test_a_page_that_names_itself_is_a_circle(link: str) -> None:
    """An empty reference is this very page."""
    with pytest.raises(TransportError, match="circle"):
        walked(Walk(ORIGIN), PAGE, link, "a")


@pytest.mark.parametrize("ids", [(), ("a", "b")])
def test_a_listing_that_brings_nothing_new_has_an_end(ids: tuple[str, ...]) -> None:
    """A server that makes up a new token for the same page would be asked for ever."""
    walk = Walk(ORIGIN)

    def walk_on() -> None:
        for number in range(1000):
            walked(walk, f"{HERE}?pageToken={number}", f"<?pageToken={number + 1}>; rel=next", *ids)

    with pytest.raises(TransportError, match="circle"):
        walk_on()


def test_a_link_in_an_error_is_shown_as_text_and_without_secrets() -> None:
    """Where it leads, percent-encoded or not, moves no terminal and tells no token."""
    with pytest.raises(TransportError) as caught:
        walked(Walk(ORIGIN), PAGE, "<http://%1b%5d0;pwn%07.example/Bearer%20t%30ken\x9b31m>; rel=next", "a")
    assert str(caught.value).isprintable()
    assert "t0ken" not in str(caught.value)
    assert "***" in str(caught.value)
