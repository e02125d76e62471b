// Several commands of the built `kilograd`, one after the other in this process, whose start takes longer than most of
// them. The commands are the first argument as JSON; the second is a folder. What each wrote, its exit code, and what
// is in the folder after it, go to standard output as JSON.
import { readdirSync } from "node:fs";

const [, , commands, folder] = process.argv;
const cli = new URL("../../dist/cli.js", import.meta.url);
const streams = ["stdout", "stderr"];
const own = streams.map((name) => process[name].write);
// Each command listens to them.
for (const emitter of [process, process.stdout, process.stderr]) emitter.setMaxListeners(0);

const outcomes = [];
for (const [i, args] of JSON.parse(commands).entries()) {
  const outcome = { code: null, signal: null, stdout: "", stderr: "" };
  for (const name of streams) {
    process[name].write = (text) => {
      outcome[name] += text;
      return true;
    };
  }
  process.argv = [process.execPath, cli.pathname, ...args];
  process.exitCode = undefined;
  // The same file under another address is run anew; what it imports is there already.
  await import(`${cli.href}?${i}`);
  outcomes.push({ ...outcome, code: process.exitCode ?? 0, files: readdirSync(folder).sort() });
}
streams.forEach((name, i) => {
  process[name].write = own[i];
});
process.exitCode = 0;
process.stdout.write(JSON.stringify(outcomes));
