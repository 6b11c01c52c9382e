"""The other implementation of age, and ours, open what either has sealed."""

import pyrage
import pytest

from tests import age_js

CONTENTS = [b"", b"an update", bytes(range(256)) * 1024]


@pytest.mark.parametrize("content", CONTENTS, ids=len)
def test_what_either_seals_to_recipients_each_of_them_opens_with_the_other(content: bytes) -> None:
    identities = [pyrage.x25519.Identity.generate() for _ in range(2)]
    recipients = [identity.to_public() for identity in identities]
    ours, theirs = pyrage.encrypt(content, recipients), age_js.seal(content, [str(one) for one in recipients])
    for identity in identities:
        assert age_js.open(ours, str(identity)) == content
        assert pyrage.decrypt(theirs, [identity]) == content


def test_nobody_else_opens_it() -> None:
    sealed = age_js.seal(b"an update", [str(pyrage.x25519.Identity.generate().to_public())])
    stranger = pyrage.x25519.Identity.generate()
    with pytest.raises(age_js.NotOpened, match="no identity matched"):
        age_js.open(sealed, str(stranger))
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(sealed, [stranger])
