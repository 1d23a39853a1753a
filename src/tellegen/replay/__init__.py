"""How is a mistake unwound? Corrections, the steps they re-run, and the differences they post.

In: the recorded facts of intervals or of a day, what has been posted for it, and the corrected
readings. Out: difference postings that take the books to where a full replay would have put them.
"""

from tellegen.replay.corrections import Correction, ReplayError, correct, differences, full_replay, resettle, same_books

__all__ = ["Correction", "ReplayError", "correct", "differences", "full_replay", "resettle", "same_books"]
