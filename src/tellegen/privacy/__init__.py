"""Who may know what? The vault of customers' keys, and the sealing of batches under them.

In: tables and documents. Out: sealed batches for the journal; from them, with the keys, the rows
again. Where a key has been destroyed the rows are gone and every proof still verifies (law 6).
"""

from tellegen.privacy.archive import Archive
from tellegen.privacy.keystore import VaultError
from tellegen.privacy.vault import Epoch, Unsealed, Vault

__all__ = ["Archive", "Epoch", "Unsealed", "Vault", "VaultError"]
