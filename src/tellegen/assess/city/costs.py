"""What a transaction costs in capital: machines over their life, replicas counted."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tellegen.errors import InputError
from tellegen.foreign.documents import toml_document

INTERVAL_S = 300
YEAR_S = 365.25 * 86_400


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine and its price, as a price file states them.

    Attributes
    ----------
    price : of one machine, in `currency`. replicas : machines that each hold everything, the first included.
    basis : where the figures come from, in words.
    """

    name: str
    price: float
    currency: str
    cores: int
    life_years: float
    replicas: int
    basis: str

    @classmethod
    def read(cls, path: Path | None = None) -> Hardware:
        """Read a price file; None reads the assumption that ships with the product.

        Raises
        ------
        InputError : unreadable, a field is missing, or a number is not positive.
        """
        place = "hardware.toml" if path is None else str(path)
        try:
            if path is None:
                text = (resources.files("tellegen.assess.city") / "hardware.toml").read_text("utf-8")
            else:
                text = path.read_text("utf-8")
            said = toml_document(text, place)["server"]
            hardware = cls(**{name: said[name] for name in cls.__dataclass_fields__})
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(place, "file", f"cannot be read ({error})") from None
        except (KeyError, TypeError) as error:
            wanted = ", ".join(cls.__dataclass_fields__)
            raise InputError(place, "[server]", f"lacks {error}; it states {wanted}") from None
        for name in ("price", "cores", "life_years", "replicas"):
            value = getattr(hardware, name)
            if not isinstance(value, int | float) or not value > 0:
                raise InputError(place, f"[server] {name}", f"is {value!r}; it must be a positive number")
        return hardware

    def cost_per_transaction(self, transactions: int) -> float:
        """Capital cost of one of the transactions of an interval, in `currency`; the machines do nothing else.

        >>> round(Hardware("s", 3155.76, "EUR", 2, 1.0, 1, "").cost_per_transaction(300) * 1e6, 3)
        100.0
        """
        return self.replicas * self.price * INTERVAL_S / (self.life_years * YEAR_S * transactions)
