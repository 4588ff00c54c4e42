// Mouse, pen and fingers on the picture, as what they mean: click, drag, hover, pan, zoom.

const CLICK_SLACK = 5; // screen pixels that a hand may tremble within a click
const FINGER_SLACK = 10;
const MIDDLE = 1;
const RIGHT = 2;

/**
 * `on` hears: tool() -> "select" | "brush" | "move"; click(point, {negative, add}), dragStart/dragMove/dragEnd(from, to,
 * event), dragCancel(), hover(point | null, event), where points are picture pixels.
 */
export function listenToPointers(stage, view, on) {
  const down = new Map(); // pointers that touch, by id: their places on the stage
  let gesture = null; // {kind: "press" | "drag" | "pan" | "pinch", ...}
  let spaceIsDown = false;

  stage.addEventListener("keydown", (event) => { if (event.code === "Space") spaceIsDown = true; });
  window.addEventListener("keyup", (event) => { if (event.code === "Space") spaceIsDown = false; });
  window.addEventListener("blur", () => { spaceIsDown = false; });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());

  stage.addEventListener("pointerdown", (event) => {
    if (!view.bitmap || event.target.closest("button")) return; // the plates over the picture have their own
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    down.set(event.pointerId, view.onStage(event));
    if (down.size === 2) {
      if (gesture?.kind === "drag") on.dragCancel();
      gesture = { kind: "pinch", ...spread() };
    } else if (down.size === 1) {
      const pans = event.button === MIDDLE || spaceIsDown || on.tool() === "move";
      const start = view.onStage(event);
      gesture = { kind: pans ? "pan" : "press", start, last: start, negative: event.button === RIGHT || event.shiftKey };
      if (!pans && on.tool() === "brush") {
        gesture.kind = "drag";
        on.dragStart(view.toPicture(start), event, gesture.negative);
      }
    }
    event.preventDefault();
  });

  stage.addEventListener("pointermove", (event) => {
    const place = view.onStage(event);
    if (!down.has(event.pointerId)) {
      on.hover(view.toPicture(place), event);
      return;
    }
    down.set(event.pointerId, place);
    if (gesture?.kind === "pinch" && down.size === 2) pinch();
    else if (gesture?.kind === "pan") {
      view.pan(place[0] - gesture.last[0], place[1] - gesture.last[1]);
      gesture.last = place;
    } else if (gesture) pressOrDrag(place, event);
  });

  function pressOrDrag(place, event) {
    const slack = event.pointerType === "touch" ? FINGER_SLACK : CLICK_SLACK;
    const moved = Math.hypot(place[0] - gesture.start[0], place[1] - gesture.start[1]) > slack;
    if (gesture.kind === "press" && moved) {
      gesture.kind = "drag";
      on.dragStart(view.toPicture(gesture.start), event, gesture.negative);
    }
    if (gesture.kind !== "drag") return;
    // Between two frames a pen reports several places; a stroke wants them all.
    const all = event.getCoalescedEvents?.() ?? [];
    for (const one of all.length ? all : [event]) on.dragMove(view.toPicture(view.onStage(one)), event);
  }

  stage.addEventListener("pointerup", (event) => {
    if (!down.delete(event.pointerId) || !gesture) return;
    const { kind, start, negative } = gesture;
    if (kind === "pinch") {
      gesture = down.size ? { kind: "rest" } : null; // the second finger's leaving is no click
      return;
    }
    if (down.size === 0) gesture = null;
    if (kind === "press") on.click(view.toPicture(start), { negative, replace: event.altKey });
    if (kind === "drag") on.dragEnd(view.toPicture(view.onStage(event)), event);
  });

  stage.addEventListener("pointercancel", (event) => {
    down.delete(event.pointerId);
    if (gesture?.kind === "drag") on.dragCancel();
    gesture = null;
  });

  stage.addEventListener("pointerleave", (event) => { if (!down.has(event.pointerId)) on.hover(null, event); });

  stage.addEventListener("wheel", (event) => {
    if (!view.bitmap) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    view.zoomAt(view.onStage(event), Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015)));
  }, { passive: false });

  function spread() {
    const [a, b] = [...down.values()];
    return { middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], apart: Math.hypot(a[0] - b[0], a[1] - b[1]) };
  }

  function pinch() {
    const now = spread();
    view.pan(now.middle[0] - gesture.middle[0], now.middle[1] - gesture.middle[1]);
    view.zoomAt(now.middle, now.apart / Math.max(1, gesture.apart));
    gesture = { kind: "pinch", ...now };
  }
}
