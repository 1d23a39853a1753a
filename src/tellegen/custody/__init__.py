"""Who holds which key? One key per role, each in a file of its own, wrapped by a key from outside.

In: where keys lie, and a key from outside that opens them. Out: secrets of a role to whoever may have them, signatures
to whoever may not. What seals customers' rows is the vault's (`privacy`).
"""

from tellegen.custody.roles import ROLES, KeyRole
from tellegen.custody.secret_file import SecretFile
from tellegen.custody.signing_agent import SigningAgent
from tellegen.custody.wrapping import CustodyError, FileKey, Wrapper, wrapper_for, wrapper_of, wrapper_wanted

__all__ = [
    "ROLES",
    "CustodyError",
    "FileKey",
    "KeyRole",
    "SecretFile",
    "SigningAgent",
    "Wrapper",
    "wrapper_for",
    "wrapper_of",
    "wrapper_wanted",
]
