// kafkajs: the three roles of ../README.md. It has gzip of its own; the other codecs are plug-ins.
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs');
const snappy = require('kafkajs-snappy');

CompressionCodecs[CompressionTypes.Snappy] = snappy;

const [, , role, bootstrap, topic, ...rest] = process.argv;
const kafka = new Kafka({
  clientId: 'compat', brokers: [bootstrap], logLevel: logLevel.ERROR,
  retry: { retries: 100, initialRetryTime: 100, maxRetryTime: 500 },
});

async function produce(count, codec, idempotent, prefix) {
  const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy };
  const producer = kafka.producer({ idempotent, maxInFlightRequests: 1, allowAutoTopicCreation: true });
  await producer.connect();
  for (let from = 0; from < count; from += 100) {
    const messages = [];
    for (let n = from; n < Math.min(count, from + 100); n++) messages.push({ key: `${n}`, value: `${prefix}-${n}` });
    await producer.send({ topic, messages, acks: -1, compression: codecs[codec] });
    for (const message of messages) console.log('acked', message.value);
  }
  await producer.disconnect();
}

async function consume(group, count) {
  const consumer = kafka.consumer({ groupId: group, sessionTimeout: 6000, heartbeatInterval: 1000 });
  consumer.on(consumer.events.GROUP_JOIN, (event) =>
    console.log('assigned', (event.payload.memberAssignment[topic] || []).join(',')));
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  let seen = 0;
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, (event) => { if (!event.payload.restart) reject(event.payload.error); });
    consumer.run({
      autoCommit: false,
      partitionsConsumedConcurrently: 1,
      eachMessage: async ({ partition, message }) => {
        if (seen >= count) return;
        seen++;
        console.log(partition, message.offset, message.value.toString());
        await consumer.commitOffsets([{ topic, partition, offset: (BigInt(message.offset) + 1n).toString() }]);
        if (seen === count) resolve();
      },
    });
  });
  await consumer.disconnect();
}

const run = {
  produce: () => produce(Number(rest[0]), rest[1], rest[2] === '1', rest[3]),
  consume: () => consume(rest[0], Number(rest[1])),
  member: () => consume(rest[0], Infinity),
}[role];
run().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
