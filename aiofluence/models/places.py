"""Locations of instances, and their countries.

A container plan names two-letter countries. A machine's location is free text (contract 3.2): `us-central-3`,
`sanjose-usa-2`, `kristiansand-norway-2`, `Finland 2`, `Texas`. Pure text, no I/O.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

# Two-letter and three-letter codes of ISO 3166, then names. Country names that are also other places
# (Georgia, Jersey) are left out.
_TABLE: Final = """
AD AND Andorra|AE ARE United Arab Emirates,UAE,Emirates|AL ALB Albania|AM ARM Armenia|AO AGO Angola
AR ARG Argentina|AT AUT Austria|AU AUS Australia|AZ AZE Azerbaijan|BA BIH Bosnia and Herzegovina,Bosnia
BD BGD Bangladesh|BE BEL Belgium|BG BGR Bulgaria|BH BHR Bahrain|BN BRN Brunei|BO BOL Bolivia|BR BRA Brazil
BT BTN Bhutan|BW BWA Botswana|BY BLR Belarus|CA CAN Canada|CD COD DR Congo|CH CHE Switzerland
CI CIV Cote d'Ivoire,Ivory Coast|CL CHL Chile|CM CMR Cameroon|CN CHN China|CO COL Colombia
CR CRI Costa Rica|CU CUB Cuba|CY CYP Cyprus|CZ CZE Czechia,Czech Republic|DE DEU Germany|DK DNK Denmark
DO DOM Dominican Republic|DZ DZA Algeria|EC ECU Ecuador|EE EST Estonia|EG EGY Egypt|ES ESP Spain
ET ETH Ethiopia|FI FIN Finland|FR FRA France|GB GBR United Kingdom,UK,Great Britain,Britain,England,Scotland
GE GEO|GH GHA Ghana|GL GRL Greenland|GR GRC Greece|GT GTM Guatemala|HK HKG Hong Kong|HN HND Honduras
HR HRV Croatia|HU HUN Hungary|ID IDN Indonesia|IE IRL Ireland|IL ISR Israel|IN IND India|IQ IRQ Iraq
IR IRN Iran|IS ISL Iceland|IT ITA Italy|JM JAM Jamaica|JO JOR Jordan|JP JPN Japan|KE KEN Kenya
KG KGZ Kyrgyzstan|KH KHM Cambodia|KR KOR South Korea,Korea,Republic of Korea|KW KWT Kuwait|KZ KAZ Kazakhstan
LA LAO Laos|LB LBN Lebanon|LI LIE Liechtenstein|LK LKA Sri Lanka|LT LTU Lithuania|LU LUX Luxembourg
LV LVA Latvia|MA MAR Morocco|MC MCO Monaco|MD MDA Moldova|ME MNE Montenegro|MG MDG Madagascar
MK MKD North Macedonia,Macedonia|MM MMR Myanmar|MN MNG Mongolia|MO MAC Macao,Macau|MT MLT Malta
MU MUS Mauritius|MX MEX Mexico|MY MYS Malaysia|MZ MOZ Mozambique|NA NAM Namibia|NG NGA Nigeria
NI NIC Nicaragua|NL NLD Netherlands,The Netherlands,Holland|NO NOR Norway|NP NPL Nepal|NZ NZL New Zealand
OM OMN Oman|PA PAN Panama|PE PER Peru|PH PHL Philippines|PK PAK Pakistan|PL POL Poland|PR PRI Puerto Rico
PT PRT Portugal|PY PRY Paraguay|QA QAT Qatar|RO ROU Romania|RS SRB Serbia|RU RUS Russia|RW RWA Rwanda
SA SAU Saudi Arabia|SE SWE Sweden|SG SGP Singapore|SI SVN Slovenia|SK SVK Slovakia|SN SEN Senegal
SV SLV El Salvador|TH THA Thailand|TJ TJK Tajikistan|TM TKM Turkmenistan|TN TUN Tunisia|TR TUR Turkey,Turkiye
TT TTO Trinidad and Tobago|TW TWN Taiwan|TZ TZA Tanzania|UA UKR Ukraine|UG UGA Uganda
US USA United States,United States of America,America|UY URY Uruguay|UZ UZB Uzbekistan|VE VEN Venezuela
VN VNM Vietnam,Viet Nam|ZA ZAF South Africa|ZM ZMB Zambia|ZW ZWE Zimbabwe
"""
# States and provinces that a location may name instead of a country, as `Texas` does.
_REGIONS: Final = {
    "US": (
        "Alabama,Alaska,Arizona,Arkansas,California,Colorado,Connecticut,Delaware,Florida,Hawaii,Idaho,Illinois,"
        "Indiana,Iowa,Kansas,Kentucky,Louisiana,Maine,Maryland,Massachusetts,Michigan,Minnesota,Mississippi,"
        "Missouri,Montana,Nebraska,Nevada,New Hampshire,New Jersey,New Mexico,New York,North Carolina,"
        "North Dakota,Ohio,Oklahoma,Oregon,Pennsylvania,Rhode Island,South Carolina,South Dakota,Tennessee,"
        "Texas,Utah,Vermont,Virginia,Washington,West Virginia,Wisconsin,Wyoming"
    ),
    "CA": (
        "Alberta,British Columbia,Manitoba,New Brunswick,Newfoundland,Nova Scotia,Ontario,Quebec,Saskatchewan"
    ),
}
_DIRECTIONS: Final = frozenset(
    ["north", "south", "east", "west", "central", "northeast", "northwest", "southeast", "southwest"]
)
_LONGEST: Final = 4
"""Number of words of the longest name."""
_READ: Final = 256
"""Number of characters of a location to read."""


def _words(text: str) -> list[str]:
    """Return the words of `text` in lower case, without accents and numbers."""
    plain = unicodedata.normalize("NFKD", text[:_READ]).casefold()
    return re.findall("[a-z]+", "".join(letter for letter in plain if not unicodedata.combining(letter)))


@functools.cache
def _read_table() -> tuple[dict[str, str], dict[str, str]]:
    """Return countries by each code and name, and by each name that may be a part of a location."""
    named: dict[str, str] = {}
    inside: dict[str, str] = {}
    for row in _TABLE.replace("\n", "|").strip("|").split("|"):
        two, three, *rest = row.split(" ", 2)
        names = ["".join(_words(name)) for name in "".join(rest).split(",") if name]
        named |= dict.fromkeys((two.lower(), three.lower(), *names), two)
        inside |= dict.fromkeys(names, two)
    inside["usa"] = "US"
    for two, regions in _REGIONS.items():
        inside |= {"".join(_words(name)): two for name in regions.split(",")}
    return named, inside


def country_named(text: str) -> str | None:
    """Return the two-letter code of the country named by `text`: `US`, `USA`, `united states`; else None."""
    named, _ = _read_table()
    return named.get("".join(_words(text))) if not re.search(r"\d", text) else None


@functools.lru_cache(1024)
def country_at(location: str) -> str | None:
    """Return the two-letter code of the country of `location`; None if the text does not show it.

    A two-letter code counts if it is the whole text, or if only compass points and numbers follow: `us`,
    `us-central-3`. In `la-usa-1`, `la` is no country. A country's name, `usa`, a state of the US and a
    province of Canada count as whole words anywhere. The longest name counts: `new-mexico-1` is in the US.
    """
    words = _words(location)
    named, inside = _read_table()
    if words and len(words[0]) == 2 and _DIRECTIONS.issuperset(words[1:]):
        return named.get(words[0])
    if len(words) == 1 and words[0] in named:
        return named[words[0]]
    for length in range(_LONGEST, 0, -1):
        for start in range(len(words) - length + 1):
            if found := inside.get("".join(words[start : start + length])):
                return found
    return None


def is_at(location: str, wanted: str) -> bool:
    """Return True if `location` matches `wanted`, regardless of case.

    Args:
        location: a location as the service writes it.
        wanted: a whole location, a glob such as `us-*`, or a country's code or name.
    """
    here, asked = location.strip().casefold(), wanted.strip().casefold()
    if here == asked:
        return True
    if any(letter in asked for letter in "*?["):
        return fnmatchcase(here, asked)
    country = country_named(wanted)
    return country is not None and country == country_at(location)


def pick_location(locations: Iterable[str], wanted: str) -> str | None:
    """Return the first of `locations` that matches `wanted`, as the service writes it; None without any."""
    return next((location for location in locations if is_at(location, wanted)), None)
