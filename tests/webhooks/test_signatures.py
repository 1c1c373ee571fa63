from __future__ import annotations

import base64
import random

import pytest

from runwait.webhooks.signatures import signature, signing_key

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def test_a_signature_is_the_one_of_the_specifications_libraries() -> None:
    # The example that they all test with.
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    content = b'{"test": 2432232314}'
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, content)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_holds_a_key_of_24_to_64_bytes(size: int) -> None:
    key = random.randbytes(size)
    assert signing_key("whsec_" + base64.b64encode(key).decode()) == key


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        SECRET.removeprefix("whsec_"),
        SECRET.replace("whsec_", "WHSEC_"),
        SECRET + "!",
        SECRET + " ",
        SECRET + "\n",
        SECRET.rstrip("="),
        "whsec_é" + SECRET.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_any_other_text_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="Must be whsec_ and the base64 text of 24 to 64") as bad:
        signing_key(secret)
    assert SECRET.removeprefix("whsec_") not in str(bad.value)
