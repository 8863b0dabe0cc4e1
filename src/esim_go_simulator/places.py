"""The places that the generated catalogue sells plans for: countries by region, and groups of countries."""

from __future__ import annotations

from typing import Final

_COUNTRIES: Final = {
    "Africa": (
        "BF=Burkina Faso; BJ=Benin; BW=Botswana; CD=Democratic Republic of the Congo; CF=Central African Republic; "
        "CG=Congo; CI=Ivory Coast; CM=Cameroon; CV=Cape Verde; DZ=Algeria; EG=Egypt; ET=Ethiopia; GA=Gabon; "
        "GH=Ghana; GN=Guinea; GW=Guinea-Bissau; KE=Kenya; LR=Liberia; LS=Lesotho; MA=Morocco; MG=Madagascar; "
        "ML=Mali; MR=Mauritania; MU=Mauritius; MW=Malawi; MZ=Mozambique; NA=Namibia; NE=Niger; NG=Nigeria; "
        "RE=Reunion; RW=Rwanda; SC=Seychelles; SD=Sudan; SN=Senegal; SZ=Swaziland; TD=Chad; TG=Togo; TN=Tunisia; "
        "TZ=Tanzania, United Republic of; UG=Uganda; YT=Mayotte, Réunion; ZA=South Africa; ZM=Zambia"
    ),
    "Asia": (
        "AE=United Arab Emirates; AM=Armenia; AZ=Azerbaijan; BD=Bangladesh; BH=Bahrain; BN=Brunei Darussalam; "
        "CN=China; CY=Cyprus; GE=Georgia; HK=Hong Kong; ID=Indonesia; IL=Israel; IN=India; IO=IO; IQ=Iraq; IR=Iran; "
        "JO=Jordan; JP=Japan; KG=Kyrgyzstan; KH=Cambodia; KR=Korea, Republic of; KW=Kuwait; KZ=Kazakhstan; LA=Laos; "
        "LK=Sri Lanka; MN=Mongolia; MO=Macao; MY=Malaysia; OM=Oman; PH=Philippines; PK=Pakistan; PS=Palestine; "
        "QA=Qatar; SA=Saudi Arabia; SG=Singapore; TH=Thailand; TJ=Tajikistan; TR=Turkey; TW=Taiwan; UZ=Uzbekistan; "
        "VN=Vietnam"
    ),
    "Europe": (
        "AD=Andorra; AL=Albania; AT=Austria; AX=Aaland Islands; BA=Bosnia and Herzegovina; BE=Belgium; BG=Bulgaria; "
        "BY=Belarus; CH=Switzerland; CYP=Northern Cyprus; CZ=Czech Republic; DE=Germany; DK=Denmark; EE=Estonia; "
        "ES=Spain; FI=Finland; FO=Faroe Islands; FR=France; GB=United Kingdom; GG=Guernsey; GI=Gibraltar; GR=Greece; "
        "HR=Croatia; HU=Hungary; IC=Canary Islands; IE=Ireland; IM=Isle of Man; IS=Iceland; IT=Italy; JE=Jersey; "
        "LI=Liechtenstein; LT=Lithuania; LU=Luxembourg; LV=Latvia; MC=Monaco; MD=Moldova, Republic of; "
        "ME=Montenegro; MK=Macedonia; MT=Malta; NL=Netherlands; NO=Norway; PL=Poland; PT=Portugal; RO=Romania; "
        "RS=Serbia; RU=Russia; SE=Sweden; SI=Slovenia; SK=Slovakia; UA=Ukraine; XK=Kosovo"
    ),
    "Global": ("AN=Netherlands Antilles; PO=PO; VA=Vatican City"),
    "LATAM": (
        "AR=Argentina; BO=Bolivia; BR=Brazil; CL=Chile; CO=Colombia; EC=Ecuador; GF=French Guiana; GY=Guyana; "
        "PE=Peru; PY=Paraguay; SR=Suriname; UY=Uruguay"
    ),
    "North America": (
        "AG=Antigua and Barbuda; AI=Anguilla; AW=Aruba; BB=Barbados; BL=Saint Barthelemy; BM=Bermuda; "
        "BQ=Bonaire, saint Eustatius and Saba; BS=Bahamas; CA=Canada; CR=Costa Rica; CU=Cuba; CW=Curacao; "
        "DM=Dominica; DO=Dominican Republic; GD=Grenada; GL=Greenland; GP=Guadeloupe; GT=Guatemala; HN=Honduras; "
        "HT=Haiti; JM=Jamaica; KN=Saint Kitts and Nevis; KY=Cayman Islands; LC=Saint Lucia; MF=Saint Martin; "
        "MQ=Martinique; MS=Montserrat; MX=Mexico; NI=Nicaragua; PA=Panama; PR=Puerto Rico; SV=El Salvador; "
        "TC=Turks and Caicos Islands; TT=Trinidad and Tobago; US=United States of America; US-HI=Hawaii; "
        "VC=Saint Vincent and the Grenadines; VG=Virgin Islands - British; VI=Virgin Islands - United States"
    ),
    "Oceania": (
        "AU=Australia; FJ=Fiji; GU=Guam, Northern Mariana Islands; NR=Nauru; NZ=New Zealand; PG=Papua New Guinea; "
        "TO=Tonga; VU=Vanuatu; WS=Samoa"
    ),
}
"""Region to ``code=name`` entries. Codes are the supplier's own: mostly ISO 3166-1, but also ``CYP`` and ``US-HI``."""

_REGIONS: Final = {
    "RAF=Africa": ("EG MA TZ UG TN ZA ZM MG NG KE MU RE"),
    "RLA=Americas": ("AR BR CL CO CR EC SV PE UY GF MX"),
    "RAS=Asia": ("AU HK ID KR MO MY PK SG LK TW TH UZ VN NZ"),
    "RBK=Balkans": ("AL BA BG GR HR MK ME RO RS SI"),
    "RCA=Caribbean": ("AI AG BS BB BM BQ KY CW DM SV GF GD GY HT JM MQ MS AN KN LC VC TT TC VG SR"),
    "RCE=CENAM": ("CR SV GT HN MX NI PA"),
    "RCI=CIS": ("AM KZ KG MD RU UA GE"),
    "REUP=EU+": (
        "AT DK IE IT SE FR BG CY EE FI GR HU LV LT NL NO PL RO SK ES GB TR DE MT CH BE HR CZ LI LU PT SI IS IC VA CYP"
    ),
    "REUL=Europe Lite": (
        "AT DK IE IT SE FR BG CY EE FI GR HU LV LT NL NO PL RO SK ES DE MT CH BE HR CZ LI LU PT SI IS IC VA MD"
    ),
    "RGB=Global": (
        "AT DK IE IT SE IM FR BG CY EE FI GR HU LV LT NL NO PL RO SK ES GB TR DE MT CH BE HR CZ LI LU PT SI IS UA JE "
        "SG MO HK IL AX ID VN RU AE AU TH TW LK MY PK UZ EG NZ AL KR CA KZ MD MK KW MX GG JO OM GI MA BR CL RS JP ME "
        "GU US TZ UG CR EC NI IN AR SV PE UY CN PA RE TN BA ZA ZM MG NG KE AD IQ QA SC MU CO GT CM GY SA PY BO"
    ),
    "RME=Middle East & Africa": ("EG IL JO KW MA OM TR AE"),
    "RMENA=Middle East and North Africa": ("AE BH EG IL MA SA TN QA KW JO"),
    "RNA=North America": ("CA MX US"),
    "ROC=Oceania": ("AU NZ"),
    "RGBL=Global - Light": (
        "AL AU AT BG CA HR CY CZ DK EG FI FR DE GR HK HU IS ID IE IO IL IT JE KZ LV LI LT LU MO MY MT MD NL NZ NO PK "
        "PL PT RO RU SG SK SI KR ES LK SE CH TW TH TR UA AE GB UZ VN IC AX CYP US US-HI"
    ),
    "RGBS=Global - Standard": (
        "AL AU AT BG CA HR CY CZ DK EG FI FR DE GR HK HU IS ID IE IO IL IT JE KZ LV LI LT LU MO MY MT MD NL NZ NO PK "
        "PO PT RO RU SG SK SI KR ES LK SE CH TW TH TR UA AE GB UZ VN IC AX CYP BR CL GI GU JP JO MX ME MA OM RS TZ "
        "UG US US-HI"
    ),
    "RGBM=Global - Max": (
        "AL AU AT BG CA HR CY CZ DK EG FI FR DE HK HU IS ID IE IO IL IT JE KZ LV LI LT LU MO MY MT MD NL NZ NO PK PO "
        "PT RO RU SG SK SI KR ES LK SE CH TW TH TR UA AE GB UZ VN IC AX CYP BR CL GI GU JP JO MX ME MA OM RS TZ UG "
        "US US-HI AD AR BH BO BA CN CO CR EC SV GT GY HN IN IQ KE KW MG MU NI PA PY PE QA RE SA SC TN UY ZA"
    ),
    "REUS=Europe + USA": (
        "AT DK IE IT SE FR BG CY EE FI GR HU LV LT NL NO PL RO SK ES GB TR DE MT CH BE HR CZ LI LU PT SI IS IC VA "
        "CYP US"
    ),
    "RBH=Europe + USA + Business Hubs": (
        "AT DK IE IT SE FR BG CY EE FI GR HU LV LT NL NO PL RO SK ES GB TR DE MT CH BE HR CZ LI LU PT SI IS IC VA "
        "CYP US CA HK SG AE AU CN JP KR EG"
    ),
}
"""``code=name`` of a plan for several countries, to their codes."""


def countries() -> dict[str, tuple[str, str]]:
    """Country code to name and region, in the order of the codes; 198 of them."""
    found: dict[str, tuple[str, str]] = {}
    for region, listing in _COUNTRIES.items():
        for entry in listing.split("; "):
            code, _, name = entry.partition("=")
            found[code] = (name, region)
    return dict(sorted(found.items()))


def regions() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Code of a plan for several countries to its name and the codes of its countries."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for label, listing in _REGIONS.items():
        code, _, name = label.partition("=")
        found[code] = (name, tuple(listing.split(" ")))
    return found
