#!/usr/bin/env node
// The compiler from npm's `solc` (WebAssembly) behind the command line that py-solc-x expects of a native solc.
"use strict";
const fs = require("fs");
const solc = require("solc");

const args = process.argv.slice(2);
if (args.includes("--version")) {
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}`);
} else if (args.includes("--standard-json")) {
  process.stdout.write(solc.compile(fs.readFileSync(0, "utf8")));
} else {
  console.error(`solc.js: only --version and --standard-json are served, not: ${args.join(" ")}`);
  process.exitCode = 1;
}
