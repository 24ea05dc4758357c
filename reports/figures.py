"""Numbers as the text that tables show."""

from __future__ import annotations


def millions(value: float) -> str:
    """A count in millions.

    >>> millions(10_708_624), millions(618_123_456)
    ('10.71', '618.1')
    """
    return f"{value / 1e6:,.2f}" if value < 100e6 else f"{value / 1e6:,.1f}"


def giga(value: float) -> str:
    """A count in thousands of millions.

    >>> giga(2.824e9), giga(45.67e9), giga(1234.5e9), giga(3.42e6)
    ('2.82', '45.7', '1,234', '0.0034')
    """
    thousand_millions = value / 1e9
    if 0 < thousand_millions < 0.01:
        return f"{thousand_millions:.2g}"
    if thousand_millions < 10:
        return f"{thousand_millions:,.2f}"
    return f"{thousand_millions:,.1f}" if thousand_millions < 100 else f"{thousand_millions:,.0f}"


def megabytes(value: float) -> str:
    """Bytes in MB (10**6).

    >>> megabytes(43_200_000)
    '43.2'
    """
    return f"{value / 1e6:,.1f}"


def milliseconds(value: float) -> str:
    """A time with three digits that matter.

    >>> milliseconds(7.123), milliseconds(71.23), milliseconds(7123.4)
    ('7.12', '71.2', '7,123')
    """
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def fewer(share: float) -> str:
    """How much smaller something is; how many times as large where it is not smaller.

    >>> fewer(0.98267), fewer(-0.25), fewer(0.0)
    ('98.3%', '1.2 times as many', '0.0%')
    """
    return f"{100 * share:.1f}%" if share >= 0 else f"{1 - share:.1f} times as many"


def decimals(value: float) -> str:
    """A score with three decimals.

    >>> decimals(0.81524), decimals(-0.016)
    ('0.815', '−0.016')
    """
    return f"{value:.3f}".replace("-", "−")


def ratio(value: float) -> str:
    """A ratio with three digits that matter, and two decimals where it is small.

    >>> ratio(0.1789), ratio(6.277), ratio(26.466), ratio(151.2)
    ('0.18', '6.28', '26.5', '151')
    """
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def with_sign(value: float) -> str:
    """A difference of scores with three decimals and its sign.

    >>> with_sign(0.0284), with_sign(-0.016)
    ('+0.028', '−0.016')
    """
    return f"{value:+.3f}".replace("-", "−")


def estimate(value: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """A score and its interval.

    >>> estimate(0.8152, 0.766, 0.8601)
    '0.815 (0.766 to 0.860)'
    >>> estimate(0.0284, -0.016, 0.075, signed=True)
    '+0.028 (−0.016 to +0.075)'
    >>> estimate(0.2091, None, None)
    '0.209'
    """
    if value is None:
        return "n/a"
    shown = [with_sign(each) if signed else decimals(each) for each in (value, low, high) if each is not None]
    return shown[0] if len(shown) < 3 else f"{shown[0]} ({shown[1]} to {shown[2]})"


def p_value(p: float) -> str:
    """A p-value with three decimals, never as 0.

    >>> p_value(0.0456), p_value(0.0004), p_value(1.0)
    ('p 0.046', 'p <0.001', 'p 1.000')
    """
    return f"p {p:.3f}" if p >= 0.001 else "p <0.001"
