// The keyboard. Commands with Ctrl or ⌘ work everywhere; single letters only while no field or button wants them, and
// they can be switched off in the help dialog. Arrow keys move a cross over the picture.

const STEP = 12; // screen pixels an arrow key moves the cross; with Shift one picture pixel

/** Shortcuts by key, as event.key gives it in lower case; the help dialog lists them. */
export const SHORTCUTS = {
  n: "newObject", p: "select", r: "brush", h: "move", x: "toggleSign", c: "candidate", e: "everything", t: "text",
  a: "takeAll", o: "open", f: "fit", 0: "fit", "+": "zoomIn", "=": "zoomIn", "-": "zoomOut",
  "[": "thinner", "]": "thicker",
  "?": "help", delete: "remove", backspace: "dropLast", escape: "cancel",
};
const WITH_CONTROL = { z: "undo", y: "redo", o: "open", s: "save" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** `commands` are functions by name; `cross` has move(dx, dy) in screen pixels, press({negative}) and corner(). */
export function listenToKeys(stage, commands, cross, lettersAreOn) {
  window.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const key = event.key.toLowerCase();
    const name = event.ctrlKey || event.metaKey ? controlled(key, event) : plain(key, event);
    if (!name) return;
    event.preventDefault();
    commands[name]();
  });

  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) cross.move(arrow[0], arrow[1], event.shiftKey ? null : STEP);
    else if (event.key === "Enter") cross.press({ negative: event.shiftKey });
    else if (event.key.toLowerCase() === "b" && lettersAreOn()) cross.corner();
    else return;
    event.preventDefault();
  });

  function controlled(key, event) {
    if (isText(event.target) && key !== "o" && key !== "s") return null; // a field has its own undo
    return key === "z" && event.shiftKey ? "redo" : WITH_CONTROL[key];
  }

  function plain(key, event) {
    if (event.altKey || isText(event.target)) return null;
    const isControl = event.target.closest?.("button, select, input, a, summary");
    const isLetter = key.length === 1;
    if (isLetter && !lettersAreOn()) return null;
    if (isControl && !isLetter && key !== "escape" && key !== "delete") return null;
    if (isLetter && event.target.closest?.("select")) return null;
    if (key >= "1" && key <= "9") {
      event.preventDefault();
      commands.choose(Number(key) - 1);
      return null;
    }
    return SHORTCUTS[key];
  }
}

function isText(target) {
  const others = "[type=checkbox], [type=radio], [type=range], [type=color], [type=file]";
  return Boolean(target.closest?.(`input:not(${others}), textarea`));
}
