"""How the operator console looks: what django-unfold reads."""

from __future__ import annotations

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Mercato",
    "SITE_HEADER": "Mercato",
    "SITE_SYMBOL": "storefront",
    "SITE_URL": "/",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "COLORS": {
        "primary": {
            "50": "#eefaf5",
            "100": "#d6f3e6",
            "200": "#aee6cf",
            "300": "#7ad5b3",
            "400": "#4fc79d",
            "500": "#35b68b",
            "600": "#0b6b4f",
            "700": "#095a42",
            "800": "#084735",
            "900": "#06382a",
            "950": "#03211a",
        },
        "base": {
            "50": "#fbfaf7",
            "100": "#f2f0ea",
            "200": "#e5e2da",
            "300": "#cfcbc1",
            "400": "#a5a8ae",
            "500": "#6c6f76",
            "600": "#5c5f66",
            "700": "#44474d",
            "800": "#2b2e33",
            "900": "#1a1c1f",
            "950": "#131416",
        },
    },
    "DASHBOARD_CALLBACK": "maas_site.admin.dashboard",
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": "maas_site.admin.navigation",
    },
}
