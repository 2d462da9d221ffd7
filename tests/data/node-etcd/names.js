// The names of the suite's cases, and which are left out.

'use strict';

const fs = require('fs');
const path = require('path');

const NO_SERVER = 'is about a function that sends nothing';

// The cases that are left out, by the beginnings of their names, with the reasons.
const EXCLUDED = new Map([
  ['Utility #', NO_SERVER],
  ['Client #_handleResponse()', NO_SERVER],
  ['Watcher should emit error', 'needs an answer that is no v2 response'],
  ['Watcher should reconnect (watch again) on empty body', 'a server ends a watch after 5 minutes'],
  ['Connecting should support empty constructor', 'needs port 2379'],
  ['Basic functions #set() should follow 307 redirects', 'no etcd redirects since 2.0'],
  ['Basic functions #raw() should use provided method', 'a PATCH, which no etcd serves'],
]);

// `DESCRIBE DESCRIBE IT` of each case, by the indentation of the CoffeeScript.
function published() {
  const directory = path.join(path.dirname(require.resolve('node-etcd/package.json')), 'test');
  const names = [];
  for (const file of fs.readdirSync(directory)) {
    const outer = [];
    for (const line of fs.readFileSync(path.join(directory, file), 'utf8').split('\n')) {
      const found = line.match(/^( *)(describe|it) (['"])(.*)\3,/);
      if (!found) continue;
      outer.length = found[1].length / 2;
      outer.push(found[4]);
      if (found[2] === 'it') names.push(outer.filter(Boolean).join(' '));
    }
  }
  return names;
}

// The suite's cases that are neither run nor excluded, and names that the suite does not have.
function missing(run) {
  const names = published();
  const excluded = [...EXCLUDED.keys()];
  const left = (name) => excluded.some((start) => name.startsWith(start));
  return [
    ...names.filter((name) => run.includes(name) === left(name)),
    ...run.filter((name) => !names.includes(name)),
    ...excluded.filter((start) => !names.some((name) => name.startsWith(start))),
  ];
}

module.exports = { missing };
