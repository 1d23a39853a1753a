"""Who owes whom? Folds of double-entry postings, and the ledger of their balances.

In: batches of `Postings` with the journal index that carries each. Out: balances per account and per
line that sum to zero. Everything here can be rebuilt from the journal.
"""

from tellegen.books.folding import BooksError, Fold, fold, group_sums, negated, net, require_balanced, row_sums
from tellegen.books.ledger import Ledger

__all__ = ["BooksError", "Fold", "Ledger", "fold", "group_sums", "negated", "net", "require_balanced", "row_sums"]
