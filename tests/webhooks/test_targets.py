import contextlib
import threading
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runwait.webhooks import targets as webhooks
from runwait.webhooks.targets import (
    Target,
    WebhookRefused,
    WebhookRules,
    address_allowed,
    addresses_of,
    check_target,
    is_public,
    target_of,
)

OPEN = WebhookRules()

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]

NOT_PUBLIC = {
    "this host": ["0.0.0.0", "0.1.2.3"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12::1"],
    "shared": ["100.64.0.1", "100.127.255.255"],
    "link-local": ["169.254.0.1", "fe80::1", "febf::1"],
    "site-local": ["fec0::1"],
    "unspecified": ["::"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "100::1", "192.0.0.8", "5f00::1", "4000::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "metadata": [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
    ],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"],
    "IPv4-compatible": ["::127.0.0.1", "::10.0.0.1", "::8.8.8.8"],
    "IPv4-translated": ["::ffff:0:127.0.0.1"],
    "NAT64": ["64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "64:ff9b:1::808:808"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:101::1", "2002:a9fe:a9fe::1"],
    "Teredo": ["2001:0:7f00:1::", "2001::1"],
    "with a zone": ["fe80::1%eth0", "2606:4700:4700::1111%1", "::ffff:8.8.8.8%1"],
}


def names(**hosts):
    """A resolver that knows these names alone."""

    def resolve(host):
        known = {name.replace("_", "."): found for name, found in hosts.items()}
        if host not in known:
            raise OSError("unknown name")
        return known[host]

    return resolve


PUBLIC_NAME = names(example_com=["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])


def wait_for_lookups():
    for thread in threading.enumerate():
        if thread.name == "webhook-lookup":
            thread.join(60)


def refusal(url, rules=OPEN, resolve=PUBLIC_NAME):
    with pytest.raises(WebhookRefused) as refused:
        check_target(url, rules, resolve)
    return str(refused.value)


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_anybody_can_reach_is_public(text):
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", [text for texts in NOT_PUBLIC.values() for text in texts])
def test_an_address_not_everybody_can_reach_is_not_public(text):
    assert not is_public(ip_address(text))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_is_public_is_global_to_the_standard_library_too(address):
    if is_public(address) and not getattr(address, "ipv4_mapped", None):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_as_public_as_its_mapped_and_nat64_forms(address):
    assert is_public(IPv6Address(f"::ffff:{address}")) is is_public(address)
    assert is_public(IPv6Address(f"64:ff9b::{address}")) is is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "http://example.com/hook",
        "HTTPS://EXAMPLE.com/hook",
        "https://example.com:8443/hook?a[]=1&b=%20#part",
        "https://example.com:/hook",
        "https://8.8.8.8/hook",
        "https://[2606:4700:4700::1111]:444/hook",
        "https://[::ffff:8.8.8.8]/",
    ],
)
def test_a_url_of_a_public_host_is_taken(url):
    check_target(url, OPEN, PUBLIC_NAME)


def test_a_host_name_may_end_with_a_dot():
    check_target("https://example.com./", OPEN, lambda host: ["8.8.8.8"])


def test_a_host_name_may_have_underscores_and_punycode():
    check_target("https://my_host.xn--mnchen-3ya.de/", OPEN, lambda host: ["8.8.8.8"])


def test_a_target_is_taken_apart_for_whoever_connects():
    assert target_of("HTTPS://Example.COM/a/b?c=d#e", OPEN) == Target(
        "https", "example.com", 443, "/a/b?c=d"
    )
    assert target_of("http://[2606:4700::0001]:81", OPEN) == Target("http", "2606:4700::1", 81, "/")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "data:text/plain,x",
        "unix:///var/run/docker.sock",
        "https+unix://example.com/",
        "localhost:8000/hook",
    ],
)
def test_a_scheme_other_than_http_and_https_is_refused(url):
    assert refusal(url) == "must be an http or https URL"


@pytest.mark.parametrize(
    "url", ["http://", "http:///hook", "https:///example.com", "http:example.com", "http:/hook"]
)
def test_a_url_without_a_host_is_refused(url):
    assert refusal(url) == "must name a host"


@pytest.mark.parametrize(
    "url",
    [
        "http://user@example.com/",
        "http://user:secret@example.com/",
        "http://@example.com/",
        "http://example.com@127.0.0.1/",
        "http://example.com:80@127.0.0.1:81/",
    ],
)
def test_a_user_name_or_password_is_refused(url):
    assert refusal(url) == "must not contain a user name or password"


@pytest.mark.parametrize(
    "authority",
    [
        "example.com:0",
        "example.com:65536",
        "example.com:123456",
        "example.com:-1",
        "example.com:8o",
        "example.com:+80",
        "example.com:80:80",
        ":80",
        "[::1",
        "::1",
        "]",
        "[]",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "[2606:4700:4700::1111]x",
    ],
)
def test_an_authority_that_is_no_host_and_port_is_refused(authority):
    assert "must have a" in refusal(f"http://{authority}/")


@pytest.mark.parametrize("text", ["1:2", "8.8.8.8", ":::", "1::2::3", "fffff::"])
def test_brackets_around_anything_but_an_ipv6_address_are_refused(text):
    assert "IPv6" in refusal(f"http://[{text}]/")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com\\@127.0.0.1/",
        "http:\\\\127.0.0.1\\",
        "http://example.com/a b",
        " http://example.com/",
        "http://example.com/ ",
        "http://example.com\t/",
        "ht\ntp://example.com/",
        "http://example.com/\r\nHost: evil",
        "http://example.com/\x00",
        "http://example.com/\x7f",
        "http://exa\u00adample.com/",
        "http://１２７.0.0.1/",
        "http://127。0。0。1/",
        "http://ⓔⓧⓐⓜⓟⓛⓔ.com/",
        "http://münchen.de/",
        "http://example.com/ü",
        "http://example.com:８０/",
        "http://example.com/%zz",
        "http://example.com/%",
        "http://example.com/<>",
        "http://example.com/\ud800",
    ],
)
@pytest.mark.parametrize("rules", [OPEN, WebhookRules(base_url="https://example.com/")])
def test_text_that_is_no_uri_is_refused(url, rules):
    assert "must be a URI" in refusal(url, rules)


@pytest.mark.parametrize(
    "host",
    [
        "exa%6dple.com",
        "127%2e0.0.1",
        "%31%32%37.0.0.1",
        "-example.com",
        "example..com",
        ".com",
        "a" * 64 + ".com",
        ".".join(["a" * 63] * 4) + ".com",
        "example.com!",
        "a,b",
        "a;b",
        "(a)",
    ],
)
def test_a_host_that_is_no_host_name_is_refused(host):
    assert "letters, digits" in refusal(f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "0x7f.0x0.0x0.0x1",
        "00127.0.0.1",
        "1.2.3.4.5",
        "256.1.1.1",
        "0",
        "0x",
        "4294967297",
        "010.8.8.8",
        "example.1",
        "127.0.0.0x1",
        "134744072",
    ],
)
def test_a_number_that_is_not_four_decimal_ones_is_refused(host):
    for allowed in (OPEN, WebhookRules(allowed_hosts=("0.0.0.0/0", "::/0", host))):
        assert "four decimal numbers" in refusal(f"http://{host}/", allowed)


@pytest.mark.parametrize("text", [text for texts in NOT_PUBLIC.values() for text in texts])
def test_an_address_that_is_not_public_is_refused_as_a_literal_and_behind_a_name(text):
    if "%" not in text:
        url = f"http://[{text}]/" if ":" in text else f"http://{text}/"
        assert refusal(url) == "must point to a public address"
    resolve = names(example_com=[text])
    assert refusal("http://example.com/", resolve=resolve) == "must point to a public address"


def test_one_address_that_is_not_public_is_enough_to_refuse_a_name():
    resolve = names(example_com=["8.8.8.8", "10.0.0.1", "1.1.1.1"])
    assert refusal("http://example.com/", resolve=resolve) == "must point to a public address"


def test_a_refusal_does_not_tell_what_a_name_resolves_to():
    assert "10.9.8.7" not in refusal("http://a.b/", resolve=names(a_b=["10.9.8.7"]))


def test_a_name_that_nobody_knows_is_refused():
    assert "address is found" in refusal("http://unknown.example/")


@pytest.mark.parametrize("found", [[], ["no address"]])
def test_a_name_with_no_usable_address_is_refused(found):
    assert "address is found" in refusal("http://example.com/", resolve=names(example_com=found))


def test_the_system_resolver_is_the_default():
    with pytest.raises(WebhookRefused, match="public address"):
        check_target("http://localhost:8000/", OPEN)


def test_a_name_that_takes_too_long_is_refused_in_time():
    never = threading.Event()
    began = time.monotonic()
    try:
        with pytest.raises(WebhookRefused, match=r"within 0\.05 seconds"):
            check_target("http://example.com/", OPEN, lambda host: never.wait(60), seconds=0.05)
        assert time.monotonic() - began < 30
    finally:
        never.set()
        wait_for_lookups()


def test_names_of_requests_that_hang_leave_lookups_to_deliveries(monkeypatch):
    monkeypatch.setattr(webhooks, "_lookups", threading.BoundedSemaphore(1))
    never = threading.Event()
    target = webhooks.target_of("http://example.com/", OPEN)
    try:
        with pytest.raises(WebhookRefused):
            check_target("http://hangs.example/", OPEN, lambda host: never.wait(60), seconds=0.01)
        with pytest.raises(WebhookRefused):
            check_target("http://example.com/", OPEN, PUBLIC_NAME, seconds=0.01)
        own = threading.BoundedSemaphore(1)
        assert addresses_of(target, OPEN, PUBLIC_NAME, lookups=own)
    finally:
        never.set()
        wait_for_lookups()


def test_lookups_that_hang_are_bounded_and_give_way_when_they_end(monkeypatch):
    monkeypatch.setattr(webhooks, "_lookups", threading.BoundedSemaphore(3))
    answer = threading.Event()
    entered = threading.Semaphore(0)

    def hang(host):
        entered.release()
        answer.wait(60)
        return ["8.8.8.8"]

    try:
        for number in range(10):
            with pytest.raises(WebhookRefused):
                check_target(f"http://host{number}.example/", OPEN, hang, seconds=0.01)
        for _ in range(3):
            assert entered.acquire(timeout=60)
        assert not entered.acquire(blocking=False)
    finally:
        answer.set()
        wait_for_lookups()
    check_target("http://example.com/", OPEN, PUBLIC_NAME)


def test_a_host_that_hangs_takes_no_lookup_from_another(monkeypatch):
    monkeypatch.setattr(webhooks, "_lookups", threading.BoundedSemaphore(2))
    answer = threading.Event()
    asked = []

    def hang(host):
        asked.append(host)
        answer.wait(60)
        return ["8.8.8.8"]

    try:
        for _ in range(10):
            with pytest.raises(WebhookRefused):
                check_target("http://hangs.example/", OPEN, hang, seconds=0.01)
        check_target("http://example.com/", OPEN, PUBLIC_NAME)
        assert asked == ["hangs.example"]
    finally:
        answer.set()
        wait_for_lookups()
    check_target("http://hangs.example/", OPEN, hang)
    assert asked == ["hangs.example"] * 2


def test_a_machine_without_threads_refuses_and_recovers(monkeypatch):
    monkeypatch.setattr(webhooks, "_lookups", threading.BoundedSemaphore(1))

    def fail(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        assert "address is found" in refusal("http://example.com/")
    check_target("http://example.com/", OPEN, PUBLIC_NAME)


class TestRelativeReferences:
    based = WebhookRules(base_url="https://example.com/hooks/all?x=1")

    @pytest.mark.parametrize("url", ["/hook", "hook", "?a=b", "#part", "//example.com/x", ""])
    def test_are_refused_without_a_base(self, url):
        assert refusal(url) == "must be an absolute http or https URL"

    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("/hook", "/hook"),
            ("hook", "/hooks/hook"),
            ("../hook?a=b", "/hook?a=b"),
            ("?a=b", "/hooks/all?a=b"),
            ("//example.com/x", "/x"),
        ],
    )
    def test_are_resolved_against_the_base(self, url, path):
        check_target(url, self.based, PUBLIC_NAME)
        assert target_of(url, self.based) == Target("https", "example.com", 443, path)

    @pytest.mark.parametrize("url", ["//127.0.0.1/x", "//[::1]/x", "//10.0.0.1"])
    def test_cannot_leave_the_base_for_another_host_unchecked(self, url):
        assert refusal(url, self.based) == "must point to a public address"

    @pytest.mark.parametrize("url", ["//user@example.com/", "//2130706433/", "//example.com:0/"])
    def test_are_checked_in_full_once_resolved(self, url):
        refusal(url, self.based)

    @pytest.mark.parametrize("url", ["//", "///127.0.0.1/x", "////127.0.0.1/x", "//?a"])
    def test_with_an_empty_host_are_refused(self, url):
        assert refusal(url, self.based) == "must name a host"

    @pytest.mark.parametrize("url", ["http:hook", "https:hook", "https:/hook"])
    def test_never_begin_with_a_scheme(self, url):
        assert refusal(url, self.based) == "must name a host"

    def test_hold_to_the_address_rule_even_at_the_base(self):
        rules = WebhookRules(base_url="http://example.com/")
        inside = names(example_com=["10.0.0.1"])
        assert refusal("/hook", rules, inside) == "must point to a public address"
        check_target("/hook", WebhookRules("http://example.com/", ("10.0.0.1",)), inside)


class TestAllowedHosts:
    inside = staticmethod(
        names(app_internal=["10.0.0.7"], internal=["10.0.0.7"], x_app_internal=["10.0.0.7"])
    )

    @pytest.mark.parametrize(
        ("entry", "url"),
        [
            ("app.internal", "http://app.internal/"),
            ("app.internal", "http://APP.internal.:8000/"),
            ("app.internal.", "http://app.internal/"),
            ("*.internal", "http://app.internal/"),
            ("*.internal", "http://x.app.internal/"),
            ("10.0.0.7", "http://app.internal/"),
            ("10.0.0.7", "http://10.0.0.7/"),
            ("10.0.0.7", "http://[::ffff:10.0.0.7]/"),
            ("10.0.0.0/8", "http://10.9.9.9/"),
            ("::1", "http://[::1]/"),
            ("::1", "http://[0:0:0:0:0:0:0:1]/"),
            ("fd00::/8", "http://[fd00:ec2::254]/"),
        ],
    )
    def test_let_the_named_ones_through(self, entry, url):
        rules = WebhookRules.parse(None, entry, False)
        check_target(url, rules, lambda host: self.inside(host.removesuffix(".")))

    @pytest.mark.parametrize(
        ("entry", "url"),
        [
            ("app.internal", "http://internal/"),
            ("app.internal", "http://x.app.internal/"),
            ("*.app.internal", "http://app.internal/"),
            ("*.pp.internal", "http://app.internal/"),
            ("app.internal", "http://10.0.0.7/"),
            ("10.0.0.8", "http://app.internal/"),
            ("10.0.0.8/29", "http://10.0.0.7/"),
            ("::/0", "http://10.0.0.7/"),
        ],
    )
    def test_let_no_others_through(self, entry, url):
        rules = WebhookRules.parse(None, entry, False)
        assert refusal(url, rules, self.inside) == "must point to a public address"

    def test_do_not_keep_public_hosts_out(self):
        check_target("http://example.com/", WebhookRules(allowed_hosts=("a.b",)), PUBLIC_NAME)

    def test_by_address_must_cover_every_address_of_a_name(self):
        rules = WebhookRules(allowed_hosts=("10.0.0.7",))
        both = names(app_internal=["10.0.0.7", "10.0.0.8"])
        assert refusal("http://app.internal/", rules, both) == "must point to a public address"

    @pytest.mark.parametrize(
        "url", ["ftp://app.internal/", "http://u@app.internal/", "http://app.internal:0/"]
    )
    def test_lift_no_other_rule(self, url):
        refusal(url, WebhookRules(allowed_hosts=("app.internal",)), self.inside)

    def test_must_have_an_address_all_the_same(self):
        rules = WebhookRules(allowed_hosts=("gone.internal",))
        assert "address is found" in refusal("http://gone.internal/", rules, self.inside)

    def test_hold_for_the_address_connected_to(self):
        rules = WebhookRules(allowed_hosts=("app.internal", "192.168.0.0/16"))
        assert address_allowed(IPv4Address("10.0.0.7"), rules, "app.internal")
        assert not address_allowed(IPv4Address("10.0.0.7"), rules, "other.internal")
        assert address_allowed(IPv4Address("192.168.3.4"), rules, "other.internal")
        assert address_allowed(IPv4Address("8.8.8.8"), rules, "other.internal")


def test_the_addresses_that_were_checked_are_handed_on():
    target = target_of("https://example.com/", OPEN)
    assert addresses_of(target, OPEN, names(example_com=["8.8.8.8", "2606:4700::1"])) == [
        IPv4Address("8.8.8.8"),
        IPv6Address("2606:4700::1"),
    ]


def test_plain_http_is_refused_where_https_is_required():
    rules = WebhookRules(base_url="https://example.com", require_https=True)
    assert refusal("http://example.com/", rules) == "must be an https URL"
    for url in ("https://example.com/", "/hook", "//example.com/hook"):
        check_target(url, rules, PUBLIC_NAME)


class TestParse:
    def test_takes_nothing_for_the_defaults(self):
        assert WebhookRules.parse(None, None, False) == WebhookRules()
        assert WebhookRules.parse("", " , ", False) == WebhookRules()

    def test_splits_the_allowed_hosts(self):
        rules = WebhookRules.parse(
            "https://example.com/", " App.internal,*.example.com ,, 10.0.0.0/8,::1 ", True
        )
        assert rules == WebhookRules(
            "https://example.com/", ("app.internal", "*.example.com", "10.0.0.0/8", "::1"), True
        )

    @pytest.mark.parametrize(
        "entry",
        [
            "http://a.b",
            "a.b:80",
            "a.b/path",
            "*",
            "*.",
            "a.*.b",
            "*a.b",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "127.1",
            "2130706433",
            "*.1",
            "[::1]",
            "mün.de",
            "a b",
            "::1%eth0x/",
            "-a",
            "a..b",
        ],
    )
    def test_names_an_entry_that_is_none(self, entry):
        with pytest.raises(ValueError, match="WEBHOOK_ALLOWED_HOSTS") as bad:
            WebhookRules.parse(None, f"good.example,{entry}", False)
        assert repr(entry) in str(bad.value)

    @pytest.mark.parametrize(
        "url", ["/hooks", "example.com", "ftp://a.b/", "http://", "http://a@b"]
    )
    def test_refuses_a_base_that_is_no_target(self, url):
        with pytest.raises(ValueError, match="WEBHOOK_BASE_URL: must"):
            WebhookRules.parse(url, None, False)

    def test_refuses_a_plain_base_where_https_is_required(self):
        with pytest.raises(ValueError, match="WEBHOOK_BASE_URL: must be an https URL"):
            WebhookRules.parse("http://a.b", None, True)


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_refused(text):
    try:
        check_target(text, OPEN, PUBLIC_NAME)
    except WebhookRefused as refused:
        assert str(refused).startswith("must ")


@pytest.mark.parametrize("start", ["http://", "http://example.com/", "//", ""])
@pytest.mark.parametrize("piece", ["a.", "1.", "1", "[", ":", "%41", "a@", "/..", "-"])
def test_a_url_of_64_kib_is_judged_at_once(start, piece):
    url = start + piece * (65_000 // len(piece))
    began = time.process_time()
    with contextlib.suppress(WebhookRefused):
        target_of(url, WebhookRules("http://example.com/"))
    assert time.process_time() - began < 10
