/**
 * The page: opens the model in this browser, shows the photo app on it, and keeps both for use without a network.
 */
import { BrowserEngine, whatIsMissing } from "./engine_browser.js";
import { createApp } from "./photo_app.js";
import { download } from "./dom.js";

const at = (id) => document.getElementById(id);

function say(sentence, { still = false } = {}) {
  at("state").textContent = sentence;
  at("loading").hidden = still;
}

/** Keep the page for visits without a network; tells whether this browser can. */
async function keep() {
  try {
    await caches.open("winnow-files");
    await navigator.serviceWorker.register("./sw.js");
    await navigator.serviceWorker.ready;
    return true;
  } catch {
    return false; // storage is switched off, or the page is not served over HTTPS
  }
}

/** Corrections wait here until they are saved as a file. */
function showCorrections(/** @type {BrowserEngine} */ engine, count) {
  at("corrections").hidden = !count;
  at("corrections-count").textContent = count === 1 ? "1 correction is waiting here." : `${count} corrections are waiting here.`;
  at("save").onclick = async () => {
    download(await engine.corrections(), "corrections.zip");
    at("forget").hidden = false;
  };
  at("forget").onclick = async () => {
    await engine.box.clear();
    at("forget").hidden = true;
    showCorrections(engine, 0);
  };
}

async function start() {
  const missing = whatIsMissing();
  if (missing) return say(missing, { still: true });
  const response = await fetch("./model.json");
  if (!response.ok) throw new Error(`model.json is missing on this host, ${response.status}`);
  const site = await response.json();
  const engine = new BrowserEngine(site, {
    onprogress: (share) => { at("loading").value = share; },
    oncorrections: (count) => showCorrections(engine, count),
  });
  createApp(at("app"), engine, site.options);
  await engine.ready;
  say("Ready.", { still: true });
  const offline = (await keep()) ? "Ready, also without a network." : "Ready. This browser doesn't keep the page for use without a network.";
  const altered = await engine.altersPixels.catch(() => false);
  say(altered ? `${offline} A privacy setting of this browser blurs photos a little, so answers may be less sure than they should be.` : offline, { still: true });
}

start().catch((error) => say(`The page can't start: ${error.message}`, { still: true }));
