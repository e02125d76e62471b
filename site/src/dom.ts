// Elements of a page, made and found.

/** An element of the page by its id. */
export function element<T extends Element = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element "${id}"`);
  return found as unknown as T;
}

type Attributes = Readonly<Record<string, string | number | boolean>>;

function filled<T extends Element>(made: T, attributes: Attributes, children: readonly (Node | string)[]): T {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/** An element of HTML. */
export const html = <Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] => filled(document.createElement(name), attributes, children);

/** An element of SVG. */
export const svg = <Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): SVGElementTagNameMap[Name] =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

/** Numbers of a form's fields from the address, and into it, so that a link gives the same settings. */
export function settingsInAddress(form: HTMLFormElement): void {
  const given = new URLSearchParams(location.search);
  // A field for a file has no name: what is in it stays out of the address.
  const fields = [...form.elements].filter(
    (field) => (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) && field.name !== "",
  ) as (HTMLInputElement | HTMLSelectElement)[];
  for (const field of fields) {
    const value = given.get(field.name);
    if (value === null) continue;
    const before = field.value;
    field.value = value;
    // What the field does not take leaves it as it was.
    if (field.value !== value || !field.checkValidity()) field.value = before;
  }
  form.addEventListener("change", () => {
    const query = new URLSearchParams(fields.map(({ name, value }) => [name, value]));
    history.replaceState(null, "", `?${query}`);
  });
}
