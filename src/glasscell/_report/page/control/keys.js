// Answers the keys: arrows step through time and units, space plays.

const FAR = 10; // steps of Page Up and Page Down

/** Listens on the views. orderNow: a function that returns the units from top to bottom. */
export function listenToKeys(views, choice, cellOf, orderNow, player) {
  views.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || ["SELECT", "INPUT"].includes(event.target.tagName)) return;
    if (event.key === " ") {
      if (event.target.tagName === "BUTTON" && !event.target.dataset.step) return;
      player.toggle();
    } else {
      const change = changeOf(event.key, choice.now, cellOf(), orderNow());
      if (!change) return;
      choice.set(change);
    }
    event.preventDefault();
  });
}

/** Returns the change that a key makes; null for any other key. */
function changeOf(key, { time, unit }, cell, order) {
  const to = (step) => ({ time: Math.max(0, Math.min(cell.steps - 1, step)) });
  const times = {
    ArrowLeft: time - 1,
    ArrowRight: time + 1,
    PageUp: time - FAR,
    PageDown: time + FAR,
    Home: 0,
    End: cell.steps - 1,
  };
  if (key in times) return to(times[key]);
  const down = { ArrowUp: -1, ArrowDown: 1 }[key];
  if (!down) return null;
  const place = order.indexOf(unit) + down;
  return { unit: order[Math.max(0, Math.min(order.length - 1, place))] };
}
