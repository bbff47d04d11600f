"""What third parties get with an action, and the signatures of their callbacks."""

from __future__ import annotations

import pytest
from tests.signing import github, standard

from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.signatures import SigningKeys
from dalsegno.engine.executors.tokens import new_key
from dalsegno.engine.settings import checked_address
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.changes import Signature
from dalsegno.workflow.refusals import SignatureInvalid, SignatureMissing
from dalsegno.workflow.scope import CALLBACK_URL
from dalsegno.workflow.value import encode

ATTEMPT = "01890a5d-ac96-774b-bcce-b302099a8057.1.0.2"
NOW_S = 1_700_000_000.0
KEYS = SigningKeys(new_key())


def test_a_genuine_callback_is_taken() -> None:
    """Both schemes; of several signatures one must fit; a version that is not known is passed over."""
    key = KEYS.make(ATTEMPT, 3)
    KEYS.check(ATTEMPT, 3, Signature.STANDARD_WEBHOOKS, standard(b'{"a":1}', key, int(NOW_S)), NOW_S)
    KEYS.check(ATTEMPT, 3, Signature.GITHUB, github(b"", key), NOW_S)
    several = standard(b"x", key, int(NOW_S))
    several.signature = f"v1a,AAAA v1,notbase64! v1,AAAA {several.signature}"
    KEYS.check(ATTEMPT, 3, Signature.STANDARD_WEBHOOKS, several, NOW_S + 299)


def test_a_key_belongs_to_one_delivery_and_one_store() -> None:
    """Another delivery, attempt or store has another key, and refuses what was signed with this one."""
    key = KEYS.make(ATTEMPT, 3)
    signed = standard(b"x", key, int(NOW_S))
    for keys, attempt, delivery in (
        (KEYS, ATTEMPT, 4),
        (KEYS, ATTEMPT[:-1] + "3", 3),
        (SigningKeys(new_key()), ATTEMPT, 3),
    ):
        assert keys.make(attempt, delivery) != key
        with pytest.raises(SignatureInvalid, match="not genuine"):
            keys.check(attempt, delivery, Signature.STANDARD_WEBHOOKS, signed, NOW_S)


def test_a_callback_that_is_not_genuine_is_refused() -> None:
    """Body, id and time are signed; the time may differ by five minutes; GitHub's scheme has none."""
    key = KEYS.make(ATTEMPT, 3)
    for field, value in (("body", b"y"), ("id", "msg_2"), ("timestamp_s", int(NOW_S) - 1), ("signature", "v1,")):
        signed = standard(b"x", key, int(NOW_S))
        setattr(signed, field, value)
        with pytest.raises(SignatureInvalid, match="not genuine"):
            KEYS.check(ATTEMPT, 3, Signature.STANDARD_WEBHOOKS, signed, NOW_S)
    for late_s in (301, -301):
        with pytest.raises(SignatureInvalid, match="signed 301 s"):
            KEYS.check(ATTEMPT, 3, Signature.STANDARD_WEBHOOKS, standard(b"x", key, int(NOW_S)), NOW_S + late_s)
    with pytest.raises(SignatureInvalid, match="no dot"):
        KEYS.check(ATTEMPT, 3, Signature.STANDARD_WEBHOOKS, standard(b"x", key, int(NOW_S), id="a.b"), NOW_S)
    for signature in ("sha256=", "sha1=00", "é", "x" * 5000):
        forged = github(b"x", key)
        forged.signature = signature
        with pytest.raises(SignatureInvalid):
            KEYS.check(ATTEMPT, 3, Signature.GITHUB, forged, NOW_S)


def test_a_callback_without_the_signature_that_was_asked_for_is_refused() -> None:
    """No signature, an empty one, or one of the other scheme."""
    key = KEYS.make(ATTEMPT, 3)
    for signed in (None, execution_pb2.SignedBody(), github(b"x", key)):
        with pytest.raises(SignatureMissing):
            KEYS.check(ATTEMPT, 3, Signature.STANDARD_WEBHOOKS, signed, NOW_S)


def test_the_address_is_added_and_takes_the_place_of_the_mark() -> None:
    """Everywhere in the input; an input that would be too large with it is an obstacle, as is a missing address."""
    callbacks = Callbacks(new_key(), checked_address("https://flows.example.com/dalsegno/"))
    text = encode({"a": [CALLBACK_URL, f"at {CALLBACK_URL}!"]})
    assert callbacks.obstacle(text) == ""
    message = wire.RunAction(action_execution_id=ATTEMPT, delivery=3, input=text)
    callbacks.add(message)
    url = f"https://flows.example.com/dalsegno/hooks/token/{message.task_token}"
    assert message.callback_url == url
    assert message.input == encode({"a": [url, f"at {url}!"]})
    assert "at most 4,000,000" in callbacks.obstacle(encode([CALLBACK_URL] * 20_000))
    without = Callbacks(new_key())
    assert "--public-url" in without.obstacle(text)
    assert without.obstacle("{}") == ""


@pytest.mark.parametrize(
    "wrong", ["flows.example.com", "ftp://a.example.com", "https://", 'https://a"b', "https://a?x=1", "https://u@a"]
)
def test_an_address_that_is_none_is_refused(wrong: str) -> None:
    """The engine does not start with it."""
    with pytest.raises(ValueError, match=r"address|must have"):
        checked_address(wrong)
