"""Makes `signatures.json`: a public key and a signature over `message` for each algorithm with key pairs, all made by OpenSSL. The
private keys are gone when this ends.

    python3 signatures.py > signatures.json"""
import base64
import json
import pathlib
import subprocess
import tempfile

MESSAGE = b"message"
HASHES = {"256": "sha256", "384": "sha384", "512": "sha512"}


def openssl(*words, data=b""):
    return subprocess.run(["openssl", *map(str, words)], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


def text(value):
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def elements(der):
    """The elements of a DER sequence of short elements."""
    at = 2 if der[1] < 0x80 else 2 + (der[1] & 0x7F)
    while at < len(der):
        length = der[at + 1]
        yield der[at + 2 : at + 2 + length]
        at += 2 + length


def fixed(signature, size):
    """r and s, each of `size` bytes (RFC 7518 section 3.4)."""
    return b"".join(number.lstrip(b"\0").rjust(size, b"\0") for number in elements(signature))


def rsa(key, name):
    modulus = openssl("rsa", "-in", key, "-noout", "-modulus").decode().strip().removeprefix("Modulus=")
    jwk = {"kty": "RSA", "n": text(bytes.fromhex(modulus)), "e": "AQAB"}
    padding = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"] if name[0] == "P" else []
    return jwk, openssl("dgst", f"-{HASHES[name[2:]]}", "-sign", key, *padding, data=MESSAGE)


def elliptic(key, name):
    size = int(name[2:]) // 8
    point = openssl("pkey", "-in", key, "-pubout", "-outform", "DER")[-2 * size :]
    jwk = {"kty": "EC", "crv": f"P-{name[2:]}", "x": text(point[:size]), "y": text(point[size:])}
    return jwk, fixed(openssl("dgst", f"-{HASHES[name[2:]]}", "-sign", key, data=MESSAGE), size)


def edwards(key, _):
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": text(openssl("pkey", "-in", key, "-pubout", "-outform", "DER")[-32:])}
    with tempfile.NamedTemporaryFile() as message:
        message.write(MESSAGE)
        message.flush()
        return jwk, openssl("pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", message.name)


MADE = [
    (["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], rsa, ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
    (["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], elliptic, ["ES256"]),
    (["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], elliptic, ["ES384"]),
    (["ED25519"], edwards, ["EdDSA"]),
]

signatures = []
with tempfile.TemporaryDirectory() as directory:
    key = pathlib.Path(directory) / "key.pem"
    for kind, make, names in MADE:
        openssl("genpkey", "-algorithm", *kind, "-out", key)
        for name in names:
            jwk, signature = make(key, name)
            signatures.append({"alg": name, "key": jwk, "signature": text(signature)})
print(json.dumps(signatures, indent=1))
