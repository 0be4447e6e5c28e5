/**
 * The page: opens the model in this browser, shows the photo app on it, and keeps both for use without a network.
 */
import { BrowserEngine, whatIsMissing } from "./engine_browser.js";
import { createApp } from "./photo_app.js";

const state = document.getElementById("state");
const loading = document.getElementById("loading");

const say = (sentence) => { state.textContent = sentence; };

/** Show how much of the model is here, and when it can answer. */
function watch(/** @type {BrowserEngine} */ engine) {
  engine.onprogress = (share) => { loading.value = share; };
  return engine.ready.then(
    () => { loading.hidden = true; say("Ready. Photos stay on this device."); },
    (error) => { loading.hidden = true; say(error.message); },
  );
}

/** Keep the page for visits without a network; a browser that can't says so. */
async function keep() {
  if (!("serviceWorker" in navigator)) return false;
  try {
    await navigator.serviceWorker.register("./sw.js");
    await navigator.serviceWorker.ready;
    return true;
  } catch {
    return false; // storage is switched off, or the page is not served over HTTPS
  }
}

async function start() {
  const missing = whatIsMissing();
  if (missing) {
    loading.hidden = true;
    return say(missing);
  }
  const site = await (await fetch("./model.json")).json();
  const engine = new BrowserEngine(site);
  const ready = watch(engine);
  createApp(document.getElementById("app"), engine, site.options);
  await ready;
  const kept = await keep();
  say(kept ? "Ready, also without a network. Photos stay on this device." : "Ready. Photos stay on this device; this browser doesn't keep the page for use without a network.");
}

start().catch((error) => say(`The page can't start (${error.message}): load it again.`));
