// What the page says: a line for how things went, which screen readers read out; an alert for what went wrong; and the
// little plate over the picture while something lasts.

const $ = (id) => document.getElementById(id);

export function say(text) {
  $("status").textContent = text;
}

/** Say in one sentence what went wrong; it stays until it is closed or the next thing succeeds. */
export function complain(error) {
  console.info(`samlet: ${error.stack ?? error}`);
  $("alert-text").textContent = sentence(error);
  $("alert").hidden = false;
}

export function calm() {
  $("alert").hidden = true;
  $("alert-text").textContent = "";
}

/** Show that something lasts; with `stop`, the visitor may end it. Gives {progress(done, total), done()}. */
export function busy(text, stop = null) {
  $("busy").hidden = false;
  $("busy-text").textContent = text;
  $("busy-bar").hidden = true;
  $("busy-stop").hidden = !stop;
  $("busy-stop").onclick = stop;
  return {
    progress(done, total) {
      $("busy-bar").hidden = false;
      $("busy-bar").value = total ? done / total : 0;
    },
    done() {
      $("busy").hidden = true;
    },
  };
}

/** "in 0.03 s", as precise as a person wants it. */
export function time(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(1, Math.round(milliseconds))} ms`;
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

$("alert-close").addEventListener("click", calm);

function sentence(error) {
  const text = String(error?.message ?? error).trim();
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
