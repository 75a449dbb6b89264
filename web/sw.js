// Keeps the whole page for times without a network. `make web` writes above: const BUILD = {id, files}.

const CACHE = `skf-${BUILD.id}`;

self.addEventListener("install", (event) => event.waitUntil(
  caches.open(CACHE).then((cache) => cache.addAll(BUILD.files))));

self.addEventListener("activate", (event) => event.waitUntil(
  caches.keys().then((names) => Promise.all(
    names.filter((name) => name.startsWith("skf-") && name !== CACHE).map((name) => caches.delete(name))))));

self.addEventListener("fetch", (event) => event.respondWith(
  caches.open(CACHE).then((cache) => cache.match(event.request, { ignoreSearch: true }))
    .then((kept) => kept ?? fetch(event.request))));
