// Where onnxruntime-web lies, if it does; `python -m samlet.server.web_runtime` puts it there.

const FOLDER = new URL("runtime/", document.baseURI);

/** Give the address of the runtime's module, or null if it is not there. */
export async function loadRuntime() {
  const response = await fetch(new URL("runtime.json", FOLDER)).catch(() => null);
  const { module } = response?.ok ? await response.json() : {};
  return module ? new URL(module, FOLDER).href : null;
}

/** Threads need shared memory, which browsers give to isolated pages only. */
export function threadsToUse() {
  return self.crossOriginIsolated ? Math.max(1, Math.min(4, navigator.hardwareConcurrency ?? 1)) : 1;
}
