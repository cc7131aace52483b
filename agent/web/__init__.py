"""The aiohttp application: routes, WebSockets, the page."""
