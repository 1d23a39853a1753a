"""Who and what is connected, and who may speak?

In: certificates, revocations and connections as the operator admits them. Out: records of each, and a
directory folded from them that answers by the thousand: whose key counts, which meter and which feeder are a
customer's, at one time as known at another.
"""

from tellegen.registry.assets import check_connections, connection, read_csv, write_csv
from tellegen.registry.authority import Authority, Certificate, Reason, requested_key, signing_request
from tellegen.registry.bulk import admit_many
from tellegen.registry.certificates import CertificateStore
from tellegen.registry.directory import KINDS, Directory, NotAdmittedError, Sender, Standing
from tellegen.registry.identity import Identity, RegistryError, words
from tellegen.registry.numbers import NumberIndex
from tellegen.registry.registrar import METER_PURPOSE, Registrar, admissions_of
from tellegen.registry.requests import Refused, Request, parse_requests, requests_body, rotation_message
from tellegen.registry.shard import SIGNING_PURPOSE, Shard, create_shard, open_registrar, open_shard
from tellegen.registry.versions import NONE, Versions

__all__ = [
    "KINDS",
    "METER_PURPOSE",
    "NONE",
    "SIGNING_PURPOSE",
    "Authority",
    "Certificate",
    "CertificateStore",
    "Directory",
    "Identity",
    "NotAdmittedError",
    "NumberIndex",
    "Reason",
    "Refused",
    "Registrar",
    "RegistryError",
    "Request",
    "Sender",
    "Shard",
    "Standing",
    "Versions",
    "admissions_of",
    "admit_many",
    "check_connections",
    "connection",
    "create_shard",
    "open_registrar",
    "open_shard",
    "parse_requests",
    "read_csv",
    "requested_key",
    "requests_body",
    "rotation_message",
    "signing_request",
    "words",
    "write_csv",
]
