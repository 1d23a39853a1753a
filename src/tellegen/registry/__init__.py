"""Who and what is connected, and who may speak?

In: certificates, revocations and connections as the operator admits them. Out: records of each, and a
directory folded from them that answers by the thousand: whose key counts, which meter and which feeder are a
customer's, at one time as known at another.
"""

from tellegen.registry.directory import KINDS, SOURCES, Directory, NotAdmittedError
from tellegen.registry.numbers import NumberIndex
from tellegen.registry.versions import NONE, Versions

__all__ = ["KINDS", "NONE", "SOURCES", "Directory", "NotAdmittedError", "NumberIndex", "Versions"]
