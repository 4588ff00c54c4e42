// A static export keeps itself for later, so that it opens without network; see service-worker.js.

/** `say` tells when a newer export waits for the page to be closed. */
export async function keepForOffline(say) {
  if (!("serviceWorker" in navigator)) return; // the page is not a secure one, or the browser keeps nothing
  try {
    const kept = await navigator.serviceWorker.register("service-worker.js");
    const tell = () => {
      if (kept.waiting && navigator.serviceWorker.controller) say("A newer version is here: close this page and open it again.");
    };
    tell();
    kept.addEventListener("updatefound", () => kept.installing?.addEventListener("statechange", tell));
  } catch (error) {
    console.info(`samlet: this page is not kept for later (${error.message})`);
  }
}
