// What a file of TypeScript or JavaScript imports, for tests of who may import what. (TypeScript's own preProcessFile
// passes over `export * as name from`.)
import ts from "typescript";

/**
 * The names in a text's imports and exports, and in `import()` of a name that stands there: those that bundlers follow.
 */
export function importedNames(path: string, text: string): string[] {
  const names: string[] = [];
  const visit = (node: ts.Node): void => {
    const isImport = ts.isImportDeclaration(node) || ts.isExportDeclaration(node);
    const isCall = ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword;
    const name = isImport ? node.moduleSpecifier : isCall ? node.arguments[0] : undefined;
    if (name !== undefined && ts.isStringLiteralLike(name)) names.push(name.text);
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument) && ts.isStringLiteral(node.argument.literal)) {
      names.push(node.argument.literal.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest));
  return names;
}
