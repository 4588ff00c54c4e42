// Keeps a static export whole: page, runtime and model, so that it works without network. All files of one version come
// from one cache; a newer version is fetched beside it, and takes over when the page was closed.

const VERSION = ""; // both are filled in by samlet export --format web
const FILES = [];

const PREFIX = `samlet ${self.registration.scope} `; // other pages of the same host have caches of their own
const CACHE = PREFIX + VERSION;

self.addEventListener("install", (event) => {
  const all = FILES.map((name) => new Request(name, { cache: "no-cache" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(all)));
});

self.addEventListener("activate", (event) => event.waitUntil(takeOver()));

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answer(event.request));
});

async function takeOver() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request) {
  const url = new URL(request.url);
  if (url.href.replace(/[?#].*/, "") === self.registration.scope) url.pathname += "index.html";
  const kept = await caches.match(url.pathname, { cacheName: CACHE, ignoreVary: true });
  return isolated(kept ?? (await fetch(request)));
}

// What hosts need not know: with these headers the browser lets the page compute with several threads.
function isolated(response) {
  if (response.type === "opaque" || response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  const empty = [204, 205, 304].includes(response.status);
  return new Response(empty ? null : response.body, { status: response.status, statusText: response.statusText, headers });
}
