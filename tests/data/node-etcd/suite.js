// Runs the cases of node-etcd 7's own suite against a server.
//
// The suite itself never connects: `nock` answers each request with what its author expected of
// etcd 0.1. Here each case has the suite's name and makes the same call, and asserts what an etcd
// 3.4 answers. `names.js` checks that no case of the suite is missing.
//
// `ETCD_URL` names the server, `ETCD_TLS_URL` its TLS listener, `ETCD_CA` that one's certificate.
// Prints `ok NAME` for every case, and `N passed`.

'use strict';

// node-etcd makes its waits between attempts short.
process.env.RUNNING_UNIT_TESTS = 'true';

const { cases } = require('./cases');
const { missing } = require('./names');
const { watchers } = require('./watchers');

// Only a hang takes longer.
const LIMIT_MS = 60000;

async function limited(run) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no end')), LIMIT_MS);
  });
  try {
    await Promise.race([run(), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function main() {
  const all = new Map([...cases, ...watchers]);
  const wrong = missing([...all.keys()]);
  if (wrong.length > 0) throw new Error(`names that do not match:\n${wrong.join('\n')}`);
  for (const [name, run] of all) {
    try {
      await limited(run);
    } catch (error) {
      throw new Error(`FAIL ${name}`, { cause: error });
    }
    console.log(`ok ${name}`);
  }
  console.log(`${all.size} passed`);
}

main().then(() => process.exit(0), (error) => {
  console.log(error);
  process.exit(1);
});
