/**
 * Keeps the page, so that it opens without a network. `FILES` are [path, mark]: a file whose mark is unchanged
 * isn't fetched again when the owner puts a new version online.
 */
const FILES = %%files%%;
const KEPT = "winnow-files";
const keptAs = ([path, mark]) => `${path}?${mark}`;
const marks = new Map(FILES);

addEventListener("install", (event) => event.waitUntil(install()));
addEventListener("activate", (event) => event.waitUntil(activate()));
addEventListener("fetch", (event) => {
  const path = pathOf(event.request);
  if (path !== null && event.request.method === "GET") event.respondWith(answer(event.request, path));
});

/** The file's path in the site's folder, or null when it is none of ours. */
function pathOf(request) {
  const url = new URL(request.url);
  const home = new URL("./", location.href);
  if (url.origin !== home.origin || !url.pathname.startsWith(home.pathname)) return null;
  const path = decodeURIComponent(url.pathname.slice(home.pathname.length)) || "index.html";
  return marks.has(path) ? path : null;
}

async function install() {
  const kept = await caches.open(KEPT);
  await Promise.all(FILES.map(async (file) => {
    if (await kept.match(keptAs(file))) return;
    const response = await fetch(new Request(file[0], { cache: "no-cache" }));
    if (!response.ok) throw new Error(`${file[0]}: ${response.status}`);
    await kept.put(keptAs(file), response);
  }));
  await skipWaiting();
}

/** Forget files of earlier versions and answer for pages that are open already. */
async function activate() {
  const kept = await caches.open(KEPT);
  const home = new URL("./", location.href).href; // other pages may share this host
  const current = new Set(FILES.map((file) => new URL(keptAs(file), home).href));
  for (const { url } of await kept.keys()) if (url.startsWith(home) && !current.has(url)) await kept.delete(url);
  await clients.claim();
}

async function answer(request, path) {
  const kept = await caches.open(KEPT);
  return (await kept.match(keptAs([path, marks.get(path)]))) ?? fetch(request);
}
