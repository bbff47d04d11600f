"""The pages of /login, for people without a page of their own: no script, no style, nothing from elsewhere."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from dalsegno.gateway.responses import Headers, Response

HEADERS: Headers = (
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("cross-origin-opener-policy", "same-origin"),
    ("referrer-policy", "same-origin"),  # with no-referrer browsers send the form without its origin
)
Told = tuple[str, str]

_HTML = ("content-type", "text/html; charset=utf-8")


def _page(status: int, title: str, content: str, *headers: Told, head: str = "") -> Response:
    begin = '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
    text = f"{begin}{head}<title>{title}</title>\n{content}</html>\n"
    return Response(status, text.encode(), (_HTML, *HEADERS, *headers))


def login_page(next_path: str, issuer: str = "", told: str = "", status: int = 200, *headers: Told) -> Response:
    """Return the form for a token, with a link to log in at an issuer if there is one. `told`: what went wrong."""
    wrong = f"<p><strong>{escape(told)}</strong></p>\n" if told else ""
    link = f'<p><a href="/login/oidc?next={quote(next_path)}">Log in at {escape(issuer)}</a></p>\n' if issuer else ""
    form = (
        f'<form method="post" action="/login">\n<input type="hidden" name="next" value="{escape(next_path)}">\n'
        '<p><label>Token <input type="password" name="token" autocomplete="off" required></label>\n'
        "<button>Log in</button></p>\n</form>\n"
    )
    return _page(status, "Log in to Dal Segno", f"<h1>Log in to Dal Segno</h1>\n{wrong}{link}{form}", *headers)


def session_page(ends: str) -> Response:
    """Return the page of who is logged in. `ends`: when that ends, for people."""
    form = '<form method="post" action="/logout">\n<p><button>Log out</button></p>\n</form>\n'
    told = f"<h1>You are logged in</h1>\n<p>Until {escape(ends)} at the latest.</p>\n"
    return _page(200, "Dal Segno", told + form)


def forward_page(path: str, *headers: Told) -> Response:
    """Return a page that goes on to a path of ours by itself.

    A redirect would still belong to the page of the issuer, and browsers send the cookie of a session only to what our
    own pages ask for.
    """
    address = escape(path)
    head = f'<meta http-equiv="refresh" content="0; url={address}">\n'
    content = f'<p>You are logged in. <a href="{address}">Go on</a></p>\n'
    return _page(200, "Dal Segno", content, *headers, head=head)
