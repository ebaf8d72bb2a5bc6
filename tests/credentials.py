"""Content credentials that the tests sign with certificates of their own."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SOURCE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
OFFLINE: Final = {"verify": {"remote_manifest_fetch": False, "verify_after_sign": False}}
PLAIN: Final = {"builder": {"thumbnail": {"enabled": False}}}


@dataclass(frozen=True)
class Identity:
    """A signer: its chain and key as PEM, and the root that vouches for it."""

    root: bytes
    chain: bytes
    key: bytes


@cache
def identity(
    common_name: str = "Signer One", organisation: str = "Test Studio", lasts_s: float = 30 * 86400
) -> Identity:
    """Return a signer with a root of its own, whose certificate ends after some seconds: whole ones, rounded down."""
    now = datetime.now(UTC)
    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, leaf_name = _name("Test Root", "Test Roots"), _name(common_name, organisation)
    root = (
        _certificate(root_name, root_name, root_key, now - timedelta(days=900), now + timedelta(days=900))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    ends = now + timedelta(seconds=lasts_s)
    leaf = (
        _certificate(leaf_name, root_name, leaf_key, ends - timedelta(days=200), ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Identity(root.public_bytes(pem), leaf.public_bytes(pem) + root.public_bytes(pem), key)


def signed(
    data: bytes,
    mime: str,
    *actions: Mapping[str, Any],
    by: Identity | None = None,
    ingredients: Sequence[tuple[Mapping[str, Any], bytes, str]] = (),
    assertions: Sequence[Mapping[str, Any]] = (),
    remote: str | None = None,
    embed: bool = True,
    title: str = "made for a test",
) -> bytes:
    """Return a file with credentials; ``ingredients``: what is said of each, its bytes and its MIME type."""
    signer = by or identity()
    manifest = {
        "claim_generator_info": [{"name": "Test Maker", "version": "1.2"}],
        "title": title,
        "assertions": [{"label": "c2pa.actions", "data": {"actions": list(actions)}}, *assertions],
    }
    with c2pa.Context(c2pa.Settings.from_dict({**OFFLINE, **PLAIN})) as context:
        builder = c2pa.Builder(manifest, context)
        if remote is not None:
            builder.set_remote_url(remote)
        if not embed:
            builder.set_no_embed()
        for said, other, other_mime in ingredients:
            builder.add_ingredient(dict(said), other_mime, io.BytesIO(other))
        info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, signer.chain, signer.key, None)
        out = io.BytesIO()
        builder.sign(c2pa.Signer.from_info(info), mime, io.BytesIO(data), out)
    return out.getvalue()


def action(name: str, source: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an action such as ``created``, with a digital source type of IPTC."""
    kind = {} if source is None else {"digitalSourceType": SOURCE + source}
    return {"action": f"c2pa.{name}", **kind, **more}


GENERATED: Final = action("created", "trainedAlgorithmicMedia", softwareAgent={"name": "Model X", "version": "3"})
CAPTURED: Final = action("created", "digitalCapture")


def _name(common_name: str, organisation: str) -> x509.Name:
    parts = {NameOID.COUNTRY_NAME: "DE", NameOID.ORGANIZATION_NAME: organisation, NameOID.COMMON_NAME: common_name}
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts.items()])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
