"""Values to many digits with a proved radius: contact equations solved in ball arithmetic."""

from softmaxcode.certificates.proof.statements import closed_form_decimal, prove_margin, prove_tammes
from softmaxcode.certificates.proof.value import NotRegular, ProvedValue, check_digits, claims_more

__all__ = [
    "NotRegular",
    "ProvedValue",
    "check_digits",
    "claims_more",
    "closed_form_decimal",
    "prove_margin",
    "prove_tammes",
]
