// The docs of the site, made when it is built: the guides and pages of docs/ and the reference of the public names,
// rendered by TypeDoc into the shell that all pages of the site have, and the index that their search asks.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join, relative } from "node:path";
import MiniSearch from "minisearch";
import {
  Application,
  DefaultTheme,
  DefaultThemeRenderContext,
  type DocumentReflection,
  JSX,
  type PageEvent,
  type ProjectReflection,
  type Reflection,
  ReflectionKind,
  type RouterTarget,
  StructureRouter,
} from "typedoc";
import { type Entry, indexOptions } from "../src/docs/entries.js";

const root = join(import.meta.dirname, "../..");
const docs = join(root, "docs");

/** Files that say what programs may import. */
const entryPoints = ["index", "inputs", "applications", "sweeps", "node"].map((name) => join(root, `src/${name}.ts`));

/** Languages of code in docs and comments. */
const languages = ["js", "javascript", "ts", "typescript", "python", "bash", "json", "wgsl", "html"] as const;

interface Listed {
  readonly title: string;
  /** The file, and what the contents call it. */
  readonly pages: readonly { readonly file: string; readonly title: string }[];
}

/** What docs/README.md lists, by its sections. */
function readContents(): Listed[] {
  const sections = readFileSync(join(docs, "README.md"), "utf8").split(/^## /m).slice(1);
  return sections.map((section) => ({
    title: section.slice(0, section.indexOf("\n")),
    pages: [...section.matchAll(/^- \[([^\]]+)\]\(([^)#:]+\.md)\)/gm)].map(([, title, path]) => ({
      file: join(docs, path!),
      title: title!,
    })),
  }));
}

const listed = readContents();

const files = new Map<number, string>();

/** Pages lie as their files do, from docs/ on; names as they are imported. */
class Router extends StructureRouter {
  override getIdealBaseName(target: RouterTarget): string {
    const file = files.get((target as Reflection).id);
    if (file === undefined) return `api/${super.getIdealBaseName(target as Reflection)}`;
    const path = relative(docs, file);
    return (path.startsWith("..") ? basename(path) : path).replace(/\.md$/, "").toLowerCase();
  }
}

/** TypeDoc's words without its pictures, of which the style makes do with letters. */
class Context extends DefaultThemeRenderContext {
  override get icons(): DefaultThemeRenderContext["icons"] {
    return new Proxy({} as DefaultThemeRenderContext["icons"], {
      get: () => () => JSX.createElement(JSX.Fragment, null),
    });
  }
}

const escaped = (text: string) => text.replace(/[&<>"]/g, (each) => `&#${each.charCodeAt(0)};`);

/** Text of a comment or a document, as one reads it. */
const plain = (parts: readonly { readonly text: string }[] | undefined) =>
  (parts ?? [])
    .map(({ text }) => text)
    .join("")
    .trim();

/** A name with what it is part of, without the entry point: `nn.conv2d`. */
function nameOf(reflection: Reflection): string {
  const { parent } = reflection;
  const ofModule = parent === undefined || parent.isProject() || parent.kind === ReflectionKind.Module;
  return ofModule ? reflection.name : `${nameOf(parent)}.${reflection.name}`;
}

function commentOf(reflection: Reflection): string {
  const own = plain(reflection.comment?.summary);
  if (own !== "" || !reflection.isDeclaration()) return own;
  const described = [...(reflection.signatures ?? []), ...(reflection.getSignature ? [reflection.getSignature] : [])];
  return plain(described.find(({ comment }) => comment !== undefined)?.comment?.summary);
}

/** Sections of a document: what stands before each heading is that of the one before. */
function sectionsOf(text: string): string[] {
  let fenced = false;
  const sections: string[][] = [];
  for (const line of text.split("\n")) {
    if (line.trimStart().startsWith("```")) fenced = !fenced;
    if (!fenced && /^#+ /.test(line)) sections.push([]);
    else sections.at(-1)?.push(line);
  }
  return sections.map((lines) => lines.join("\n"));
}

/** Gives pages the shell of the site. */
class Theme extends DefaultTheme {
  override ContextClass = Context;
  /** The built page with the shell, for a folder below the site's. */
  static shell = "";
  /** What stands behind the page about reports. */
  static reports = "";
  readonly entries: Entry[] = [];

  override render(page: PageEvent<Reflection>): string {
    const context = this.getRenderContext(page);
    const { model, url } = page;
    const isDocument = model.isDocument() || model.isProject();
    const body = JSX.renderElement(
      model.isProject()
        ? context.indexTemplate(page as PageEvent<ProjectReflection>)
        : model.isDocument()
          ? context.documentTemplate(page as PageEvent<DocumentReflection>)
          : context.reflectionTemplate(page as never),
    );
    const behind = files.get(model.id) === join(docs, "reports.md") ? Theme.reports : "";
    const header = isDocument ? "" : JSX.renderElement(context.header(page));
    const title = model.isProject() ? "Docs" : model.isDocument() ? model.name : nameOf(model);
    const prefix = "../".repeat(url.split("/").length - 1);
    const description = isDocument
      ? `${title}: documentation of Kilograd.`
      : commentOf(model).split("\n\n")[0]!.replaceAll(/\s+/g, " ");
    this.collect(page);
    // A summary is a button: nothing else in it can be pressed.
    const main = body.replaceAll(/<summary.*?<\/summary>/gs, (summary) => summary.replaceAll(/<a .*?<\/a>/gs, ""));
    return Theme.shell
      .replaceAll(/(href|src|data-root)="\.\.\//g, (_, name) => `${name}="${prefix}../`)
      .replace(/<title>.*?<\/title>/, `<title>${escaped(title)} · Kilograd</title>`)
      .replace(/(<meta name="description" content=")[^"]*/, (_, before) => `${before}${escaped(description)}`)
      .replace("</title>", `</title><link rel="stylesheet" href="${prefix}highlight.css" />`)
      .replace("<main></main>", () => `<main>${header}${main}${behind}</main>`)
      .replace("<aside></aside>", () => `<aside>${this.contents(page, context)}</aside>`);
  }

  /** Links to everything, and to the sections of this page. */
  private contents(page: PageEvent<Reflection>, context: DefaultThemeRenderContext): string {
    const link = (target: Reflection, title: string) => {
      const here = target === page.model;
      const sections = here && target.isDocument() ? page.pageHeadings.filter(({ level }) => level === 2) : [];
      const inside = sections.map(({ link, text }) => `<li><a href="${link}">${escaped(text)}</a></li>`).join("");
      return `<li><a href="${context.urlTo(target) || "#"}"${here ? ' aria-current="page"' : ""}>${escaped(title)}</a>${inside && `<ul>${inside}</ul>`}</li>`;
    };
    const list = (title: string, links: readonly string[]) => `<h2>${escaped(title)}</h2><ul>${links.join("")}</ul>`;
    const documents = new Map(page.project.documents?.map((each) => [files.get(each.id), each]));
    const pages = listed.map(({ title, pages }) =>
      list(
        title,
        pages.map((each) => link(documents.get(each.file)!, each.title)),
      ),
    );
    const modules = page.project.getChildrenByKind(ReflectionKind.Module);
    return `${pages.join("")}${list(
      "Public names",
      modules.map((each) => link(each, each.name)),
    )}`;
  }

  private collect({ model, url, pageHeadings }: PageEvent<Reflection>): void {
    if (model.isDocument()) {
      const headings = pageHeadings.filter(({ level }) => level !== undefined);
      const kind = url.startsWith("guides/") ? "Guide" : "Page";
      for (const [i, text] of sectionsOf(plain(model.content)).entries()) {
        const heading = headings[i]!;
        const title = i === 0 ? model.name : `${model.name}: ${heading.text}`;
        this.entries.push({ id: i === 0 ? url : `${url}${heading.link}`, title, kind, text });
      }
      return;
    }
    if (model.isProject() || !model.isDeclaration()) return;
    this.addName(model, url);
    if (!model.kindOf(ReflectionKind.SomeModule)) {
      for (const child of model.children ?? [])
        if (!child.isReference()) this.addName(child, `${url}#${this.router.getAnchor(child)}`);
    }
  }

  private addName(reflection: Reflection, id: string): void {
    const kind = ReflectionKind.singularString(reflection.kind);
    this.entries.push({ id, title: nameOf(reflection), kind, text: commentOf(reflection) });
  }
}

interface Token {
  info: string;
}

/** What overflows is reached by keyboard, too: code and tables. A fence without a language is plain text. */
function reachable(parser: { renderer: { rules: Record<string, unknown> } }): void {
  const { rules } = parser.renderer;
  const fence = rules["fence"] as (tokens: Token[], place: number, ...given: unknown[]) => string;
  rules["fence"] = (tokens: Token[], place: number, ...given: unknown[]) => {
    tokens[place]!.info ||= "text";
    return fence(tokens, place, ...given).replace("<pre>", '<pre tabindex="0">');
  };
  rules["table_open"] = () => '<div class="scroll" tabindex="0"><table>\n';
  rules["table_close"] = () => "</table></div>\n";
}

interface ReportPage {
  readonly name: string;
  readonly title: string;
}

/** Reports of runs in the folders of a folder, as `kilograd run all` leaves them. */
function reportsIn(folder: string): ReportPage[] {
  const names = readdirSync(folder).filter((name) => existsSync(join(folder, name, "report.html")));
  if (names.length === 0) throw new Error(`site: ${folder} must have folders with a report.html, and has none`);
  return names.sort().map((name) => {
    const page = readFileSync(join(folder, name, "report.html"), "utf8");
    return { name, title: /<title>(.*?)<\/title>/s.exec(page)?.[1] ?? name };
  });
}

/** The list of reports, behind the page that tells of them. Titles are markup already. */
function reportList(reports: readonly ReportPage[]): string {
  if (reports.length === 0) return "<p><em>This copy of the site was built without reports.</em></p>";
  const cards = reports.map(
    ({ name, title }) =>
      `<section class="card"><h2><a href="reports/${encodeURIComponent(name)}.html">${title}</a></h2><p>${escaped(name)}</p></section>`,
  );
  return `<div class="cards">${cards.join("")}</div>`;
}

/**
 * Renders all docs into the folder of a page that has the shell, `index.html`. A warning of TypeDoc is an error: a link
 * that leads nowhere, a type that is not exported.
 */
export async function renderDocs(folder: string, given: { readonly reports?: string | undefined } = {}): Promise<void> {
  const reports = given.reports === undefined ? [] : reportsIn(given.reports);
  Theme.shell = readFileSync(join(folder, "index.html"), "utf8");
  Theme.reports = reportList(reports);
  const documents = listed.flatMap(({ pages }) => pages);
  const app = await Application.bootstrap({
    ...{
      name: "Kilograd",
      intentionallyNotExported: ["UnaryName"],
      entryPoints,
      sortEntryPoints: false,
      tsconfig: join(root, "tsconfig.build.json"),
    },
    ...{ readme: join(docs, "README.md"), projectDocuments: documents.map(({ file }) => file) },
    ...{ excludePrivate: true, excludeProtected: true, excludeInternal: true, excludeExternals: true },
    // The compiler checks types, elsewhere.
    ...{ disableGit: true, disableSources: true, skipErrorChecking: true, includeHierarchySummary: false },
    ...{
      highlightLanguages: [...languages],
      ignoredHighlightLanguages: ["text"],
      lightHighlightTheme: "github-light-high-contrast",
    },
    ...{ darkHighlightTheme: "github-dark-high-contrast", markdownItOptions: { html: false, linkify: false } },
    ...{ markdownItLoader: reachable, router: "site", theme: "site", cleanOutputDir: true },
  });
  let theme: Theme | undefined;
  app.renderer.defineRouter("site", Router);
  app.renderer.defineTheme(
    "site",
    class extends Theme {
      constructor(...given: ConstructorParameters<typeof DefaultTheme>) {
        super(...given);
        theme = this;
      }
    },
  );
  const project = await app.convert();
  if (project === undefined) throw new Error("site: TypeDoc found nothing to document");
  for (const module of project.getChildrenByKind(ReflectionKind.Module)) {
    module.name = module.name === "index" ? "kilograd" : `kilograd/${module.name}`;
  }
  for (const document of project.documents ?? []) {
    const file = project.files.getReflectionPath(document)!;
    files.set(document.id, file);
    document.name = documents.find((each) => each.file === file)!.title;
  }
  app.validate(project);
  await app.generateDocs(project, folder);
  const { warningCount, errorCount } = app.logger;
  if (warningCount + errorCount > 0) {
    throw new Error(`site: TypeDoc has ${errorCount} errors and ${warningCount} warnings, which are above`);
  }
  renameSync(join(folder, "assets/highlight.css"), join(folder, "highlight.css"));
  rmSync(join(folder, "assets"), { recursive: true });
  // Each keeps its own policy: it is a page of its own, and nothing is put into it.
  for (const { name } of reports) {
    mkdirSync(join(folder, "reports"), { recursive: true });
    copyFileSync(join(given.reports!, name, "report.html"), join(folder, "reports", `${name}.html`));
  }
  const index = new MiniSearch<Entry>(indexOptions);
  index.addAll(theme!.entries);
  writeFileSync(join(folder, "search.json"), JSON.stringify(index));
}
