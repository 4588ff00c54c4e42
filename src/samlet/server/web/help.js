// The help dialog, with the list of shortcuts.

const ROWS = [
  ["Add a place to the object", "Click", "Enter"],
  ["Take a place away", "Shift click", "Shift Enter"],
  ["Draw a box", "Drag", "B … B"],
  ["Move the cross", "Arrows"],
  ["… by one pixel", "Shift arrows"],
  ["New object", "N"],
  ["Choose an object", "1 … 9"],
  ["Remove the object", "Delete"],
  ["Take back the last click", "Backspace"],
  ["Undo, redo", "Ctrl Z", "Ctrl Shift Z"],
  ["Smaller or larger", "C"],
  ["Find everything", "E"],
  ["… keep all of it", "A"],
  ["Find by words", "T"],
  ["Click or box, brush, move", "P", "R", "H"],
  ["Add or take away", "X"],
  ["Thinner or thicker brush", "[", "]"],
  ["Zoom", "Wheel", "+", "−"],
  ["Whole picture", "0"],
  ["Move the picture", "Space drag"],
  ["Open a picture", "O"],
  ["Save the cut-out", "Ctrl S"],
  ["Stop, leave", "Esc"],
  ["This help", "?"],
];

/** Fill the list of shortcuts. */
export function fillShortcuts(list) {
  for (const [what, ...keys] of ROWS) {
    const row = document.createElement("div");
    const name = document.createElement("span");
    name.textContent = what;
    const shown = document.createElement("span");
    keys.forEach((key) => {
      const cap = document.createElement("kbd");
      cap.textContent = key;
      shown.append(cap, " ");
    });
    row.append(name, shown);
    list.append(row);
  }
}
