// The form of a new job: a button of the estimate carries out the change it names.
"use strict";

function setField(name, value) {
  const field = $(`#new-job [name="${CSS.escape(name)}"]`);
  if (!field) return null;
  if (field.type === "checkbox") field.checked = value === true;
  else field.value = String(value);
  const closed = field.closest("details:not([open])");
  if (closed) closed.open = true;
  return field;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-apply]");
  if (!button) return;
  const fields = Object.entries(JSON.parse(button.dataset.apply)).map(([name, value]) => setField(name, value)).filter(Boolean);
  if (!fields.length) return;
  fields[0].focus({ preventScroll: true });
  fields[0].dispatchEvent(new Event("input", { bubbles: true }));
  toast(`${$("span", button).textContent}.`);
});

// A time that is typed here is meant by the clock that hangs here.
for (const field of $$("[data-zone]")) field.value ||= Intl.DateTimeFormat().resolvedOptions().timeZone || "";

// Enter in the name of a recipe keeps the recipe and adds no job.
$('#new-job [name="recipe_name"]')?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  $("#save-recipe").click();
});
