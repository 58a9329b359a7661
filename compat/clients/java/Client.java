import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The Java clients: the three roles of ../README.md, and the admin client. */
public class Client {
    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "produce" -> produce(args[1], args[2], Integer.parseInt(args[3]), args[4], args[5].equals("1"), args[6]);
            case "consume" -> consume(args[1], args[2], args[3], Integer.parseInt(args[4]));
            case "member" -> consume(args[1], args[2], args[3], Integer.MAX_VALUE);
            case "admin" -> admin(args[1], args[2]);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static void produce(String bootstrap, String topic, int count, String codec, boolean idempotent,
                                String prefix) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("compression.type", codec);
        config.put("acks", "all");
        config.put("enable.idempotence", idempotent);
        config.put("delivery.timeout.ms", 120000);
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (int n = 0; n < count; n++) {
                String value = prefix + "-" + n;
                producer.send(new ProducerRecord<>(topic, Integer.toString(n), value), (metadata, error) -> {
                    if (error == null) {
                        System.out.println("acked " + value);
                    } else {
                        failure.set(error);
                    }
                });
            }
            producer.flush();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
    }

    private static void consume(String bootstrap, String topic, String group, int count) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("group.id", group);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", false);
        config.put("session.timeout.ms", 6000);
        config.put("heartbeat.interval.ms", 1000);
        int seen = 0;
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) { }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    System.out.println("assigned " + partitions.stream().map(p -> "" + p.partition())
                        .collect(Collectors.joining(",")));
                }
            });
            while (seen < count) {
                var offsets = new java.util.HashMap<TopicPartition, org.apache.kafka.clients.consumer.OffsetAndMetadata>();
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (seen == count) {
                        break;
                    }
                    System.out.println(record.partition() + " " + record.offset() + " " + record.value());
                    offsets.put(new TopicPartition(record.topic(), record.partition()),
                        new org.apache.kafka.clients.consumer.OffsetAndMetadata(record.offset() + 1));
                    seen++;
                }
                if (!offsets.isEmpty()) {
                    try {
                        consumer.commitSync(offsets);
                    } catch (org.apache.kafka.common.errors.RetriableException
                             | org.apache.kafka.clients.consumer.CommitFailedException rebalancing) {
                        System.err.println("commit: " + rebalancing.getMessage());
                    }
                }
            }
        }
    }

    private static void admin(String bootstrap, String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(new NewTopic(topic, 2, (short) -1))).all().get();
            System.out.println("partitions " + admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size());
            System.out.println("brokers " + admin.describeCluster().nodes().get().size());
            System.out.println("dirs " + admin.describeLogDirs(List.of(admin.describeCluster().nodes().get().iterator().next().id()))
                .allDescriptions().get().size());
            System.out.println("groups " + admin.listConsumerGroups().all().get().size());
            admin.deleteTopics(List.of(topic)).all().get();
        }
    }
}
