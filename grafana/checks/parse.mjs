// Reads [{language, query}] from stdin and writes, for each, the number of places that its grammar does not understand.
import { parser as logql } from '@grafana/lezer-logql';
import { parser as traceql } from '@grafana/lezer-traceql';
import { parser as promql } from '@prometheus-io/lezer-promql';

const parsers = { logql, traceql, promql };

let text = '';
for await (const chunk of process.stdin) text += chunk;

const errors = JSON.parse(text).map(({ language, query }) => {
  let found = 0;
  parsers[language].parse(query).iterate({ enter: (node) => { if (node.type.isError) found += 1; } });
  return found;
});
process.stdout.write(JSON.stringify(errors));
